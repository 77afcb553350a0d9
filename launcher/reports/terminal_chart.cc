#include "launcher/reports/terminal_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "launcher/reports/shown_width.h"
#include "launcher/reports/terminal.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr const char* kColors[] = {"36", "33", "35", "32", "31", "34", "96", "93"};
constexpr char kMarks[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
constexpr size_t kNumMarks = sizeof kMarks - 1;
// Bits of the dots of a braille character, by row and column.
constexpr int kDots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

std::string Utf8(int code) {  // of three bytes
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

std::string CutName(const std::string& text, size_t most) {
  const std::string shown = TerminalText(text);
  const auto columns = static_cast<int64_t>(most);
  if (ShownWidth(shown) <= columns) return shown;
  return "..." + LastColumns(shown, std::max<int64_t>(columns - 3, 0));
}

// The characters in which curves are drawn.
class Canvas {
 public:
  Canvas(int columns, int rows, bool braille) : columns_(columns), rows_(rows), braille_(braille) {
    cells_.resize(static_cast<size_t>(columns) * rows);
  }
  int width() const { return columns_ * (braille_ ? 2 : 1); }
  int height() const { return rows_ * (braille_ ? 4 : 1); }

  // A dot of a curve; y from above.
  void Dot(int x, int y, int curve) {
    if (x < 0 || y < 0 || x >= width() || y >= height()) return;
    Cell& cell = cells_[(braille_ ? y / 4 : y) * columns_ + (braille_ ? x / 2 : x)];
    cell.dots |= braille_ ? kDots[y % 4][x % 2] : 1;
    cell.curve = curve;
  }
  void Line(int x0, int y0, int x1, int y1, int curve) {
    const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (int i = 0; i <= steps; ++i) {
      const double share = static_cast<double>(i) / steps;
      Dot(static_cast<int>(std::lround(x0 + share * (x1 - x0))),
          static_cast<int>(std::lround(y0 + share * (y1 - y0))), curve);
    }
  }
  std::string Row(int row, bool colors, bool letters) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const Cell& cell = cells_[row * columns_ + column];
      if (cell.dots == 0) {
        text += ' ';
        continue;
      }
      const char mark = letters ? kMarks[cell.curve % kNumMarks] : '*';
      const std::string shown = braille_ ? Utf8(0x2800 + cell.dots) : std::string(1, mark);
      text += colors ? Format("\033[%sm%s\033[0m", kColors[cell.curve % std::size(kColors)], shown.c_str())
                     : shown;
    }
    const size_t end = text.find_last_not_of(' ');
    return text.substr(0, end == std::string::npos ? 0 : end + 1);
  }

 private:
  struct Cell {
    int dots = 0, curve = 0;
  };
  int columns_, rows_;
  bool braille_;
  std::vector<Cell> cells_;
};

void DrawCurve(const Curve& curve, int number, const Axes& axes, Canvas& canvas) {
  bool has_last = false;
  int last_x = 0, last_y = 0;
  for (const auto& [x, y] : curve.points) {
    const double across = axes.x.Place(x), up = axes.y.Place(y);
    if (!(across >= 0 && across <= 1 && up >= 0 && up <= 1)) {
      has_last = false;
      continue;
    }
    const int column = static_cast<int>(std::lround(across * (canvas.width() - 1)));
    const int row = static_cast<int>(std::lround((1 - up) * (canvas.height() - 1)));
    if (has_last) canvas.Line(last_x, last_y, column, row, number);
    canvas.Dot(column, row, number);
    if (curve.is_sparse) {
      for (int d : {-1, 1}) {
        canvas.Dot(column + d, row, number);
        canvas.Dot(column, row + d, number);
      }
    }
    has_last = true;
    last_x = column;
    last_y = row;
  }
}

// The line below the curves: numbers under their places.
std::string TickLine(const Axis& axis, int columns) {
  std::string line(columns, ' ');
  const std::vector<std::string> labels = TickLabels(axis);
  int free = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const int size = static_cast<int>(labels[i].size());
    const int middle = static_cast<int>(std::lround(axis.Place(axis.ticks[i]) * (columns - 1)));
    const int begin = std::clamp(middle - size / 2, 0, std::max(0, columns - size));
    if (begin < free || begin + size > columns) continue;
    line.replace(begin, size, labels[i]);
    free = begin + size + 2;
  }
  return line.substr(0, line.find_last_not_of(' ') + 1);
}

std::string Legend(const Chart& chart, const TerminalChartOptions& options, bool letters) {
  std::string text;
  const size_t most = std::max(10, options.columns - 8);
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    const std::string mark = letters        ? std::string(1, kMarks[i % kNumMarks])
                             : options.utf8 ? Utf8(0x2501)
                                            : "*";
    const std::string shown =
        options.colors ? Format("\033[%sm%s\033[0m", kColors[i % std::size(kColors)], mark.c_str()) : mark;
    text += "  " + shown + " " + CutName(chart.curves[i].name, most) + "\n";
  }
  if (letters && chart.curves.size() > kNumMarks)
    text += CutName(Format("  marks repeat after %d curves", kNumMarks), options.columns - 1) + "\n";
  return text;
}

}  // namespace

std::string DrawInTerminal(const Chart& chart, const TerminalChartOptions& options) {
  const int columns = std::max(options.columns, 30), rows = std::max(options.rows, 6);
  const bool letters = chart.curves.size() > (options.colors ? std::size(kColors) : 1);
  const int legend_rows = static_cast<int>(chart.curves.size());
  const int height = std::max(3, rows - 3 - legend_rows);
  const Axes axes = AxesOf(chart, std::max(2, columns / 12), std::max(2, height / 3));
  std::vector<std::string> at_row(height);
  size_t margin = 0;
  const std::vector<std::string> labels = TickLabels(axes.y);
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto row = static_cast<int>(std::lround((1 - axes.y.Place(axes.y.ticks[i])) * (height - 1)));
    at_row[std::clamp(row, 0, height - 1)] = labels[i];
    margin = std::max(margin, labels[i].size());
  }
  const int width = std::max(8, columns - static_cast<int>(margin) - 4);
  Canvas canvas(width, height, options.utf8 && !letters);
  for (size_t i = 0; i < chart.curves.size(); ++i)
    DrawCurve(chart.curves[i], static_cast<int>(i), axes, canvas);

  const std::string wall = options.utf8 ? Utf8(0x2502) : "|", mark = options.utf8 ? Utf8(0x2524) : "+";
  std::string text = CutName(chart.title + " by " + chart.x_label, columns - 1) + "\n";
  for (int row = 0; row < height; ++row) {
    text +=
        Format(" %s%s %s%s\n", std::string(margin - at_row[row].size(), ' ').c_str(), at_row[row].c_str(),
               (at_row[row].empty() ? wall : mark).c_str(), canvas.Row(row, options.colors, letters).c_str());
  }
  std::string floor = options.utf8 ? Utf8(0x2514) : "+";
  for (int i = 0; i < width; ++i) floor += options.utf8 ? Utf8(0x2500) : "-";
  text += std::string(margin + 2, ' ') + floor + "\n";
  return text + std::string(margin + 3, ' ') + TickLine(axes.x, width) + "\n" +
         Legend(chart, options, letters);
}

}  // namespace unipool
