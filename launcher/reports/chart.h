// Curves to be drawn, in a terminal (terminal_chart.h) or as SVG (svg_chart.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace unipool {

using CurvePoints = std::vector<std::pair<double, double>>;  // (x, y); y may be no number: a gap

struct Curve {
  std::string name;
  CurvePoints points;
  bool is_sparse = false;  // few points, each to be seen: validations
};

struct Chart {
  std::string title, x_label;
  std::vector<Curve> curves;
};

// Each y becomes the mean of the last `count` numbers up to it; fewer at the begin. What is no number counts
// for nothing. REQUIRES: count >= 1.
CurvePoints Smoothed(const CurvePoints& points, int64_t count);

// The range of an axis and where its marks are.
struct Axis {
  double low = 0, high = 1;   // low < high
  std::vector<double> ticks;  // multiples of 1, 2 or 5 times a power of ten, within the range
  // Where a value lies, 0 at low and 1 at high.
  double Place(double value) const { return (value - low) / (high - low); }
};
struct Axes {
  Axis x, y;
};
// Of all numbers of all curves. `most`: ticks of an axis, about. Without a single point the axes are 0 to 1.
Axes AxesOf(const Chart& chart, int most_x, int most_y);

// Tick labels, all with as many digits as tell neighbours apart: "1.25", "40K", "3e-04".
std::vector<std::string> TickLabels(const Axis& axis);

}  // namespace unipool
