#include "launcher/traffic_report/html_plots.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "launcher/traffic_report/html_page.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kWidth = 1000, kLeft = 110, kRight = 60;
constexpr const char* kCurves[] = {"a", "b", "c", "d"};

std::string Begin(double height) {
  return Format("<svg viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\">\n", kWidth, height,
                kWidth, height);
}

std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return Format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, MarkupText(text));
}

std::string Rect(double x, double y, double width, double height, const std::string& css,
                 const std::string& title) {
  return Format("<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\">%s</rect>\n", css, x,
                y, width, height, title.empty() ? "" : "<title>" + MarkupText(title) + "</title>");
}

std::string Line(double x1, double y1, double x2, double y2, const char* css) {
  return Format("<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", css, x1, y1, x2,
                y2);
}

double OrZero(double value) {
  return std::isnan(value) ? 0 : value;
}

std::string Number(double value) {
  if (std::isnan(value)) return "unknown";
  return std::abs(value) >= 1000 ? Format("%.0f", value) : Format("%.4g", value);
}

// From 0 on.
Axis AxisUpTo(double most) {
  Chart chart;
  chart.curves.push_back({.name = "", .points = {{0, 0}, {most > 0 ? most : 1, most > 0 ? most : 1}}});
  return AxesOf(chart, 8, 5).x;
}

// Marks along the bottom.
std::string BottomAxis(const Axis& axis, double top, double bottom, const std::string& unit) {
  std::string svg;
  const std::vector<std::string> labels = TickLabels(axis);
  for (size_t i = 0; i < labels.size(); ++i) {
    const double x = kLeft + axis.Place(axis.ticks[i]) * (kWidth - kLeft - kRight);
    svg += Line(x, top, x, bottom, "grid") + Text(x, bottom + 14, "middle", labels[i]);
  }
  return svg + Text(kWidth - 4, bottom + 14, "end", unit);
}

std::string Legend(const std::vector<BarClass>& classes, double y) {
  std::string svg;
  double x = kLeft;
  for (const BarClass& one : classes) {
    svg += Rect(x, y - 9, 10, 10, one.css, "") + Text(x + 14, y, "start", one.name);
    x += 34 + 6.2 * static_cast<double>(one.name.size());
  }
  return svg;
}

}  // namespace

std::string StackedBarsSvg(const std::vector<StackedBar>& bars, const std::vector<BarClass>& classes,
                           const BarClass& beside, const std::string& unit) {
  double most = 0;
  for (const StackedBar& bar : bars) {
    double sum = 0;
    for (const double part : bar.parts) sum += OrZero(part);
    most = std::max({most, sum, OrZero(bar.beside)});
  }
  const Axis axis = AxisUpTo(most);
  const double row = bars.size() > 40 ? 12 : 20, top = 22,
               bottom = top + row * static_cast<double>(bars.size());
  const double scale = (kWidth - kLeft - kRight) / (axis.high - axis.low);
  std::string svg = Begin(bottom + 22);
  std::vector<BarClass> named = classes;
  if (!beside.name.empty()) named.push_back(beside);
  svg += Legend(named, 12) + BottomAxis(axis, top, bottom, unit);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = top + row * static_cast<double>(i);
    double x = kLeft;
    svg += Text(kLeft - 6, y + row * 0.7, "end", bars[i].label);
    for (size_t part = 0; part < bars[i].parts.size(); ++part) {
      const double width = OrZero(bars[i].parts[part]) * scale;
      if (width > 0)
        svg +=
            Rect(x, y + 1, width, row * 0.65, classes[part].css,
                 bars[i].label + ", " + classes[part].name + ": " + Number(bars[i].parts[part]) + " " + unit);
      x += width;
    }
    if (OrZero(bars[i].beside) > 0)
      svg += Rect(kLeft, y + 1 + row * 0.67, bars[i].beside * scale, row * 0.2, beside.css,
                  bars[i].label + ", " + beside.name + ": " + Number(bars[i].beside) + " " + unit);
  }
  return svg + "</svg>\n";
}

std::string HeatMapSvg(const HeatMap& map) {
  double most = 0;
  for (const auto& row : map.values) {
    for (const double value : row) most = std::max(most, OrZero(value));
  }
  const auto rows = static_cast<double>(map.rows.size()), columns = static_cast<double>(map.columns.size());
  const double cell = std::clamp((kWidth - kLeft - kRight) / std::max(1.0, columns), 2.0, 60.0);
  const double height = std::clamp(cell, 10.0, 26.0), top = 18;
  std::string svg = Begin(top + rows * height + 34);
  svg += Text(kLeft - 6, 12, "end", map.row_title) +
         Text(kWidth - 4, 12, "end", "darkest: " + Number(most) + " " + map.unit);
  const auto every = static_cast<size_t>(std::ceil(30 / cell));
  for (size_t j = 0; j < map.columns.size(); j += every)
    svg += Text(kLeft + cell * (static_cast<double>(j) + 0.5), top + rows * height + 14, "middle",
                map.columns[j]);
  svg += Text(kLeft, top + rows * height + 30, "start", map.column_title);
  for (size_t i = 0; i < map.rows.size(); ++i) {
    const double y = top + height * static_cast<double>(i);
    svg += Text(kLeft - 6, y + height * 0.7, "end", map.rows[i]);
    for (size_t j = 0; j < map.columns.size(); ++j) {
      const double value = map.values[i][j];
      if (std::isnan(value)) continue;
      const std::string title = map.rows[i] + ", " + map.columns[j] + ": " + Number(value) + " " + map.unit;
      svg += Format(
          "<rect class=\"heat\" fill-opacity=\"%.3f\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
          "<title>%s</title></rect>\n",
          0.04 + 0.96 * (most > 0 ? value / most : 0), kLeft + cell * static_cast<double>(j), y,
          std::max(1.0, cell - 1), height - 1, MarkupText(title));
    }
  }
  return svg + "</svg>\n";
}

std::string LinesSvg(const Chart& chart) {
  const Axes axes = AxesOf(chart, 8, 5);
  constexpr double kTop = 22, kBottom = 200;
  std::string svg = Begin(kBottom + 22) + BottomAxis(axes.x, kTop, kBottom, chart.x_label);
  const std::vector<std::string> labels = TickLabels(axes.y);
  for (size_t i = 0; i < labels.size(); ++i) {
    const double y = kTop + (1 - axes.y.Place(axes.y.ticks[i])) * (kBottom - kTop);
    svg += Line(kLeft, y, kWidth - kRight, y, "grid") + Text(kLeft - 6, y + 4, "end", labels[i]);
  }
  double legend = kLeft;
  for (size_t c = 0; c < chart.curves.size(); ++c) {
    const std::string color = kCurves[c % std::size(kCurves)];
    const Curve& curve = chart.curves[c];
    std::string points;
    size_t every = std::max<size_t>(1, curve.points.size() / 1500), count = 0;
    for (size_t i = 0; i < curve.points.size(); i += every) {
      const double x = kLeft + axes.x.Place(curve.points[i].first) * (kWidth - kLeft - kRight);
      const double y = kTop + (1 - axes.y.Place(curve.points[i].second)) * (kBottom - kTop);
      if (!(y >= kTop - 1 && y <= kBottom + 1)) continue;
      points += Format("%.1f,%.1f ", x, y);
      ++count;
      if (curve.points.size() <= 60)
        svg += Format("<circle class=\"f%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2\"/>\n", color, x, y);
    }
    if (count > 1) svg += "<polyline class=\"curve c" + color + "\" points=\"" + points + "\"/>\n";
    svg += Rect(legend, 3, 10, 10, "f" + color, "") + Text(legend + 14, 12, "start", curve.name);
    legend += 34 + 6.2 * static_cast<double>(curve.name.size());
  }
  return svg + "</svg>\n";
}

std::string ScatterSvg(const Scatter& scatter) {
  constexpr double kTop = 22, kBottom = 380, kTogether = 4;
  Chart chart{.title = "", .x_label = scatter.x_title, .curves = {{.name = "", .points = {}}}};
  for (const ScatterPoint& point : scatter.points) chart.curves[0].points.emplace_back(point.x, point.y);
  const Axes axes = AxesOf(chart, 8, 8);
  std::string svg = Begin(kBottom + 22) + BottomAxis(axes.x, kTop, kBottom, scatter.x_title) +
                    Text(kLeft - 6, 12, "end", scatter.y_title);
  const std::vector<std::string> labels = TickLabels(axes.y);
  for (size_t i = 0; i < labels.size(); ++i) {
    const double y = kTop + (1 - axes.y.Place(axes.y.ticks[i])) * (kBottom - kTop);
    svg += Line(kLeft, y, kWidth - kRight, y, "grid") + Text(kLeft - 6, y + 4, "end", labels[i]);
  }
  std::vector<BarClass> classes;
  const auto color_of = [](int name) { return std::string(kCurves[name % std::size(kCurves)]); };
  for (size_t name = 0; name < scatter.names.size(); ++name)
    classes.push_back({"f" + color_of(static_cast<int>(name)), scatter.names[name]});
  svg += Legend(classes, 12);
  std::vector<std::vector<std::pair<double, double>>> marked(scatter.names.size());
  std::set<std::pair<int, int>> drawn;
  std::string last;  // marked points lie above the others
  for (const ScatterPoint& point : scatter.points) {
    const double x = kLeft + axes.x.Place(point.x) * (kWidth - kLeft - kRight);
    const double y = kTop + (1 - axes.y.Place(point.y)) * (kBottom - kTop);
    if (point.is_marked) marked[point.name].emplace_back(x, y);
    const std::pair place(static_cast<int>(x / kTogether), static_cast<int>(y / kTogether));
    if (!point.is_marked && !drawn.insert(place).second) continue;
    (point.is_marked ? last : svg) +=
        Format("<circle class=\"f%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"><title>%s</title></circle>\n",
               color_of(point.name), x, y, point.is_marked ? 5 : 2, MarkupText(point.title));
  }
  for (size_t name = 0; name < marked.size(); ++name) {
    std::sort(marked[name].begin(), marked[name].end());
    std::string points;
    for (const auto& [x, y] : marked[name]) points += Format("%.1f,%.1f ", x, y);
    svg +=
        "<polyline class=\"curve c" + color_of(static_cast<int>(name)) + "\" points=\"" + points + "\"/>\n";
  }
  return svg + last + "</svg>\n";
}

std::string HistogramSvg(const Histogram& histogram) {
  constexpr double kTop = 22, kBottom = 200;
  double most = 0, most_curve = 0;
  for (const double count : histogram.counts) most = std::max(most, count);
  for (const auto& [name, values] : histogram.curves) {
    for (const double value : values) most_curve = std::max(most_curve, OrZero(value));
  }
  const Axis left = AxisUpTo(most), right = AxisUpTo(most_curve);
  const double width =
      (kWidth - kLeft - kRight) / static_cast<double>(std::max<size_t>(1, histogram.labels.size()));
  std::string svg = Begin(kBottom + 22);
  const auto y_of = [&](const Axis& axis, double value) {
    return kTop + (1 - axis.Place(value)) * (kBottom - kTop);
  };
  const std::vector<std::string> left_labels = TickLabels(left), right_labels = TickLabels(right);
  for (size_t i = 0; i < left_labels.size(); ++i) {
    const double y = y_of(left, left.ticks[i]);
    svg += Line(kLeft, y, kWidth - kRight, y, "grid") + Text(kLeft - 6, y + 4, "end", left_labels[i]);
  }
  for (size_t i = 0; i < right_labels.size(); ++i)
    svg += Text(kWidth - kRight + 6, y_of(right, right.ticks[i]) + 4, "start", right_labels[i]);
  svg +=
      Text(kLeft - 6, 10, "end", histogram.count_title) + Text(kWidth - 4, 10, "end", histogram.curve_title);
  for (size_t i = 0; i < histogram.labels.size(); ++i) {
    const double x = kLeft + width * static_cast<double>(i), y = y_of(left, histogram.counts[i]);
    svg += Rect(x + 1, y, std::max(1.0, width - 2), kBottom - y, "compute",
                histogram.labels[i] + ": " + Number(histogram.counts[i]));
    svg += Text(x + width / 2, kBottom + 14, "middle", histogram.labels[i]);
  }
  double legend = kLeft;
  for (size_t c = 0; c < histogram.curves.size(); ++c) {
    const auto& [name, values] = histogram.curves[c];
    const std::string color = kCurves[c % std::size(kCurves)];
    std::string points;
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      const double x = kLeft + width * (static_cast<double>(i) + 0.5), y = y_of(right, values[i]);
      points += Format("%.1f,%.1f ", x, y);
      svg += Format("<circle class=\"f%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", color, x, y);
    }
    svg += "<polyline class=\"curve c" + color + "\" points=\"" + points + "\"/>\n";
    svg += Rect(legend, 3, 10, 10, "f" + color, "") + Text(legend + 14, 12, "start", name);
    legend += 34 + 6.2 * static_cast<double>(name.size());
  }
  return svg + "</svg>\n";
}

std::string TimeLineSvg(const TimeLine& line) {
  const auto rows = static_cast<double>(line.rows.size());
  const double row = line.rows.size() > 12 ? 16 : 26, top = 22, bottom = top + rows * row;
  const size_t pixels = line.rows.size() > 12 ? 500 : 890;
  const double pixel = (kWidth - kLeft - kRight) / static_cast<double>(pixels);
  const Axis axis = AxisUpTo(line.length);
  const double end = kLeft + axis.Place(line.length) * (kWidth - kLeft - kRight),
               to_x = (end - kLeft) / line.length;
  std::string svg = Begin(bottom + 22) + Legend(line.classes, 12) + BottomAxis(axis, top, bottom, line.unit);
  std::vector<std::vector<double>> shares(pixels, std::vector<double>(line.classes.size(), 0));
  for (size_t r = 0; r < line.rows.size(); ++r) {
    const double y = top + row * static_cast<double>(r);
    svg += Text(kLeft - 6, y + row * 0.65, "end", line.labels[r]);
    for (auto& share : shares) std::fill(share.begin(), share.end(), 0);
    for (const TimeRange& range : line.rows[r]) {
      const double from = range.begin * to_x / pixel, to = range.end * to_x / pixel;
      for (auto p = static_cast<size_t>(std::max(0.0, from)); p < pixels && static_cast<double>(p) < to;
           ++p) {
        const auto left = static_cast<double>(p);
        shares[p][range.css] += std::min(to, left + 1) - std::max(from, left);
      }
    }
    std::vector<std::string> paths(line.classes.size());
    const auto css_of = [&](size_t p) {
      const auto most = std::max_element(shares[p].begin(), shares[p].end());
      return *most <= 0 ? -1 : static_cast<int>(most - shares[p].begin());
    };
    for (size_t p = 0; p < pixels;) {
      const int css = css_of(p);
      size_t next = p + 1;
      while (next < pixels && css_of(next) == css) ++next;
      if (css >= 0)
        paths[css] +=
            Format("M%.1f %gh%.1fv%gh-%.1fz", kLeft + pixel * static_cast<double>(p), y + 2,
                   pixel * static_cast<double>(next - p), row - 4, pixel * static_cast<double>(next - p));
      p = next;
    }
    for (size_t css = 0; css < paths.size(); ++css) {
      if (!paths[css].empty())
        svg += "<path class=\"" + line.classes[css].css + "\" d=\"" + paths[css] + "\"/>\n";
    }
  }
  for (const TimeArrow& arrow : line.arrows) {
    const double x1 = kLeft + arrow.from * to_x, x2 = kLeft + arrow.to * to_x;
    const double y1 = top + row * (arrow.from_row + 0.5), y2 = top + row * (arrow.to_row + 0.5);
    svg += Format(
        "<path class=\"arrow\" d=\"M%.1f %.1fL%.1f %.1f\"/><circle class=\"fa\" cx=\"%.1f\" cy=\"%.1f\" "
        "r=\"2.5\"/>\n",
        x1, y1, x2, y2, x2, y2);
  }
  return svg + "</svg>\n";
}

}  // namespace unipool
