// Plots for a page of HTML (html_page.h) as inline SVG. Colors are classes of the page's style.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launcher/reports/chart.h"

namespace unipool {

// Horizontal bars of stacked parts, in the order of `classes`, and a thin bar beside each; a label on the
// left. All of one unit, which the axis names. NaN counts as 0.
struct StackedBar {
  std::string label;
  std::vector<double> parts;
  double beside = 0;
};
struct BarClass {
  std::string css, name;  // "idle", "idle"
};
std::string StackedBarsSvg(const std::vector<StackedBar>& bars, const std::vector<BarClass>& classes,
                           const BarClass& beside, const std::string& unit);

// Cells as dark as their value; NaN cells are empty. Hovering tells row, column and value.
struct HeatMap {
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;  // [row][column]
  std::string row_title, column_title, unit;
};
std::string HeatMapSvg(const HeatMap& map);

// Curves, each with its own color and name; at most 4.
std::string LinesSvg(const Chart& chart);

// Points by two values. Those of one name have one color, of 4 that repeat. Marked points are large and
// joined by a line a name; of the others, one is drawn where several lie together. Hovering tells `title`.
struct ScatterPoint {
  double x = 0, y = 0;
  std::string title;
  int name = 0;  // index into `names`
  bool is_marked = false;
};
struct Scatter {
  std::vector<ScatterPoint> points;
  std::vector<std::string> names;
  std::string x_title, y_title;
};
std::string ScatterSvg(const Scatter& scatter);

// Vertical bars with a label each, and a curve over them by the scale on the right.
struct Histogram {
  std::vector<std::string> labels;
  std::vector<double> counts;
  std::vector<std::pair<std::string, std::vector<double>>> curves;  // name, one value a label; NaN: none
  std::string count_title, curve_title;
};
std::string HistogramSvg(const Histogram& histogram);

// Rows of colored ranges over time, and arrows between rows. Ranges shorter than a pixel show as what takes
// most of it.
struct TimeRange {
  double begin = 0, end = 0;
  int css = 0;  // index into `classes`
};
struct TimeArrow {
  double from = 0, to = 0;
  int from_row = 0, to_row = 0;
};
struct TimeLine {
  double length = 0;  // from 0
  std::string unit;
  std::vector<std::string> labels;
  std::vector<std::vector<TimeRange>> rows;  // ranges rising, without overlap
  std::vector<TimeArrow> arrows;
  std::vector<BarClass> classes;
};
std::string TimeLineSvg(const TimeLine& line);

}  // namespace unipool
