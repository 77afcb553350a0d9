// Axes, labels and smoothing of curves.
#include "launcher/reports/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>

namespace unipool {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pair;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(Chart, SmoothsOverTheLastPoints) {
  EXPECT_THAT(Smoothed({{1, 2}, {2, 4}, {3, 9}}, 1), ElementsAre(Pair(1, 2), Pair(2, 4), Pair(3, 9)));
  EXPECT_THAT(Smoothed({{1, 2}, {2, 4}, {3, 9}}, 2), ElementsAre(Pair(1, 2), Pair(2, 3), Pair(3, 6.5)));
  const CurvePoints gap = Smoothed({{1, 2}, {2, kNone}, {3, 4}}, 2);
  EXPECT_TRUE(std::isnan(gap[1].second));
  EXPECT_EQ(gap[2].second, 3);
}

TEST(Chart, SmoothsLongWindowsAtOnce) {
  CurvePoints points;
  for (int i = 0; i < 200'000; ++i) points.emplace_back(i, i == 1000 ? 1e200 : std::sin(i));
  const std::clock_t begin = std::clock();
  const CurvePoints smooth = Smoothed(points, 50'000);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 2);
  for (const int at : {500, 51'000, 120'000, 199'999}) {
    double sum = 0;
    const int first = std::max(0, at - 49'999);
    for (int i = first; i <= at; ++i) sum += points[i].second;
    EXPECT_NEAR(smooth[at].second, sum / (at - first + 1), 1e-12) << at;
  }
}

TEST(Chart, AxesHoldAllNumbersAndHaveRoundTicks) {
  const Axes axes =
      AxesOf({.curves = {{.points = {{1, 5.9}, {400, 2.7}}}, {.points = {{7, kNone}, {90, 6.2}}}}}, 5, 5);
  EXPECT_EQ(axes.x.low, 1);
  EXPECT_EQ(axes.x.high, 400);
  EXPECT_THAT(axes.x.ticks, ElementsAre(100, 200, 300, 400));
  EXPECT_EQ(axes.y.low, 2.7);
  EXPECT_EQ(axes.y.high, 6.2);
  EXPECT_THAT(axes.y.ticks, ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(axes.y.Place(4.45), DoubleNear(0.5, 1e-9));
}

TEST(Chart, AxesOfAlmostNothing) {
  EXPECT_EQ(AxesOf({}, 5, 5).x.high, 1);
  for (const double y : {3.0, 0.0, -2.0, 1e-300, 1e299}) {
    const Axis axis = AxesOf({.curves = {{.points = {{1, y}, {2, y}}}}}, 5, 5).y;
    EXPECT_LT(axis.low, axis.high);
    EXPECT_LE(axis.low, y);
    EXPECT_GE(axis.high, y);
    EXPECT_EQ(TickLabels(axis).size(), axis.ticks.size());
  }
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(AxesOf({.curves = {{.points = {{1, infinity}, {2, 3}, {3, 4}, {4, -1e308}}}}}, 5, 5).y.high, 4);
}

TEST(Chart, LabelsTellTicksApart) {
  auto labels = [](double low, double high) {
    return TickLabels(AxesOf({.curves = {{.points = {{0, low}, {1, high}}}}}, 4, 4).y);
  };
  EXPECT_THAT(labels(0, 2), ElementsAre("0.0", "0.5", "1.0", "1.5", "2.0"));
  EXPECT_THAT(labels(0, 40000), ElementsAre("0", "10K", "20K", "30K", "40K"));
  EXPECT_THAT(labels(0, 4e9), ElementsAre("0", "1B", "2B", "3B", "4B"));
  EXPECT_THAT(labels(12000, 12004), ElementsAre("12000", "12001", "12002", "12003", "12004"));
  EXPECT_THAT(labels(0, 4e-4), ElementsAre("0.0e+00", "1.0e-04", "2.0e-04", "3.0e-04", "4.0e-04"));
}

}  // namespace
}  // namespace unipool
