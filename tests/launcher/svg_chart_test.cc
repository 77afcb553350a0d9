// Charts as pictures.
#include "launcher/reports/svg_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::Not;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

TEST(SvgChart, HasACurveForEachRun) {
  const Chart chart{.title = "loss, nats",
                    .x_label = "step",
                    .curves = {{.name = "runs/a<b>&\"c\"", .points = {{0, 2}, {10, 1}}},
                               {.name = "valid", .points = {{0, 2}, {10, 1.5}}, .is_sparse = true}}};
  const std::string svg = DrawSvg(chart);
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("points=\"80.0,40.0 780.0,430.0 \""));
  EXPECT_THAT(svg, HasSubstr("points=\"80.0,40.0 780.0,235.0 \""));
  EXPECT_EQ(Count(svg, "<circle"), 2);
  EXPECT_THAT(svg, HasSubstr("runs/a&lt;b&gt;&amp;&quot;c&quot;"));
  EXPECT_THAT(svg, HasSubstr(">loss, nats</text>"));
  EXPECT_THAT(svg, HasSubstr(">1.4</text>"));
}

TEST(SvgChart, ManyPointsKeepTheirPeaks) {
  Chart chart{.curves = {{.name = "a"}}};
  for (int i = 0; i < 100'000; ++i) chart.curves[0].points.emplace_back(i, i == 50'321 ? 9 : std::sin(i));
  const std::string svg = DrawSvg(chart);
  EXPECT_LT(svg.size(), 60'000u);
  EXPECT_THAT(svg, HasSubstr(",40.0 ")) << "the peak";
}

TEST(SvgChart, GapsSplitACurve) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const std::string svg = DrawSvg({.curves = {{.name = "a", .points = {{0, 1}, {1, 2}, {2, none}, {3, 1}}}}});
  EXPECT_EQ(Count(svg, "<polyline"), 2);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(SvgChart, ManyCurvesAreNamedAndDiffer) {
  Chart chart;
  for (int i = 0; i < 30; ++i) chart.curves.push_back({.name = "run", .points = {{0, i}, {1, i}}});
  const std::string svg = DrawSvg(chart);
  EXPECT_THAT(svg, HasSubstr("viewBox=\"0 0 800 630\""));
  EXPECT_THAT(svg, HasSubstr("y=\"576.0\" text-anchor=\"end\">run</text>")) << "the last name";
  EXPECT_EQ(Count(svg, "stroke-dasharray=\"3 3\""), 16) << "the second 8 curves, and their marks";
  EXPECT_EQ(Count(svg, "stroke-dasharray=\"9 3\""), 12);
}

}  // namespace
}  // namespace unipool
