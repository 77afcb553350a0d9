#include "launcher/reports/svg_chart.h"

#include <algorithm>
#include <cmath>

#include "launcher/reports/markup.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr const char* kColors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                   "#e69f00", "#56b4e9", "#555555", "#b30000"};
constexpr int kWidth = 800, kLeastHeight = 480, kLeft = 80, kRight = 20, kTop = 40, kBottom = 50;
constexpr int kPlotWidth = kWidth - kLeft - kRight, kNameHeight = 18;

std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return Format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor,
                MarkupText(text).c_str());
}

// `stroke`: the color, and more attributes behind it.
std::string Line(double x1, double y1, double x2, double y2, const std::string& stroke) {
  return Format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2,
                stroke.c_str());
}

// Colors repeat, dashes do not.
std::string StrokeOf(size_t curve) {
  const std::string color = kColors[curve % std::size(kColors)];
  const size_t round = curve / std::size(kColors);
  return round == 0 ? color : color + Format("\" stroke-dasharray=\"%d 3", 3 * round);
}

struct Place {
  double x, y;  // pixels
};

// Of the points of a column of pixels the first, lowest, highest and last.
std::vector<Place> Thinned(const std::vector<Place>& places) {
  std::vector<Place> thin;
  for (size_t begin = 0, end; begin < places.size(); begin = end) {
    end = begin;
    while (end < places.size() && std::floor(places[end].x) == std::floor(places[begin].x)) ++end;
    if (end - begin <= 4) {
      thin.insert(thin.end(), places.begin() + begin, places.begin() + end);
      continue;
    }
    const auto [low, high] = std::minmax_element(places.begin() + begin, places.begin() + end,
                                                 [](const Place& a, const Place& b) { return a.y < b.y; });
    thin.push_back(places[begin]);
    thin.push_back(*std::min(low, high));
    thin.push_back(*std::max(low, high));
    thin.push_back(places[end - 1]);
  }
  return thin;
}

std::string PolyLine(const std::vector<Place>& places, const std::string& stroke) {
  std::string text = "<polyline fill=\"none\" stroke=\"" + stroke + "\" stroke-width=\"1.5\" points=\"";
  for (const Place& place : Thinned(places)) text += Format("%.1f,%.1f ", place.x, place.y);
  return text + "\"/>\n";
}

std::string CurveText(const Curve& curve, size_t number, const Axes& axes, int plot_height) {
  const std::string stroke = StrokeOf(number);
  std::string text;
  std::vector<Place> places;  // up to the next gap
  for (const auto& [x, y] : curve.points) {
    const double across = axes.x.Place(x), up = axes.y.Place(y);
    if (!(across >= 0 && across <= 1 && up >= 0 && up <= 1)) {
      if (!places.empty()) text += PolyLine(places, stroke);
      places.clear();
      continue;
    }
    places.push_back({kLeft + across * kPlotWidth, kTop + (1 - up) * plot_height});
    if (curve.is_sparse) {
      text += Format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", places.back().x,
                     places.back().y, kColors[number % std::size(kColors)]);
    }
  }
  return places.empty() ? text : text + PolyLine(places, stroke);
}

}  // namespace

std::string DrawSvg(const Chart& chart) {
  const Axes axes = AxesOf(chart, 8, 8);
  const auto num_curves = static_cast<int>(chart.curves.size());
  const int height = std::max(kLeastHeight, kTop + kNameHeight * num_curves + kBottom);
  const int plot_height = height - kTop - kBottom;
  std::string text = Format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
      kWidth, height, kWidth, height, kWidth, height);
  text += Text(kLeft, kTop - 16, "start", chart.title);
  const std::vector<std::string> x_labels = TickLabels(axes.x), y_labels = TickLabels(axes.y);
  const double bottom = kTop + plot_height, right = kLeft + kPlotWidth;
  for (size_t i = 0; i < x_labels.size(); ++i) {
    const double x = kLeft + axes.x.Place(axes.x.ticks[i]) * kPlotWidth;
    text += Line(x, kTop, x, bottom, "#eeeeee") + Text(x, bottom + 18, "middle", x_labels[i]);
  }
  for (size_t i = 0; i < y_labels.size(); ++i) {
    const double y = kTop + (1 - axes.y.Place(axes.y.ticks[i])) * plot_height;
    text += Line(kLeft, y, right, y, "#eeeeee") + Text(kLeft - 8, y + 4, "end", y_labels[i]);
  }
  text += Line(kLeft, bottom, right, bottom, "black") + Line(kLeft, kTop, kLeft, bottom, "black") +
          Text(right, bottom + 38, "end", chart.x_label);
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    const double y = kTop + 14 + kNameHeight * static_cast<double>(i);
    text += CurveText(chart.curves[i], i, axes, plot_height);
    text += Line(right - 24, y - 4, right - 4, y - 4, StrokeOf(i)) +
            Text(right - 30, y, "end", chart.curves[i].name);
  }
  return text + "</svg>\n";
}

}  // namespace unipool
