#include "launcher/reports/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Beyond, differences of two numbers overflow.
constexpr double kLargest = 1e300;

struct Range {
  double low = kInfinity, high = -kInfinity;
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

bool IsDrawn(double value) {
  return std::isfinite(value) && std::abs(value) < kLargest;
}

double TickStep(double width, int most) {
  const double rough = width / std::max(most, 1);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (double step : {1., 2., 5.}) {
    if (step * power >= rough) return step * power;
  }
  return 10 * power;
}

Axis AxisOf(Range range, int most) {
  if (!(range.low <= range.high)) range = {0, 1};
  if (range.high - range.low <= 1e-12 * std::max(std::abs(range.low), std::abs(range.high))) {
    const double half = range.low == 0 ? 0.5 : 0.05 * std::abs(range.low);
    range = {range.low - half, range.high + half};
  }
  Axis axis{.low = range.low, .high = range.high};
  const double step = TickStep(axis.high - axis.low, most);
  for (double i = std::ceil(axis.low / step - 1e-9); i * step <= axis.high + 1e-9 * step; ++i) {
    axis.ticks.push_back(i * step + 0.0);  // no minus zero
    if (axis.ticks.size() > 100) break;
  }
  return axis;
}

// The sum of a queue of numbers. Nothing is subtracted, so a huge number leaves no error behind.
class WindowSum {
 public:
  void Push(double value) {
    newer_.push_back(value);
    newer_sum_ += value;
  }
  void Pop() {
    if (older_sums_.empty()) {
      for (double sum = 0; !newer_.empty(); newer_.pop_back()) older_sums_.push_back(sum += newer_.back());
      newer_sum_ = 0;
    }
    older_sums_.pop_back();
  }
  int64_t size() const { return static_cast<int64_t>(newer_.size() + older_sums_.size()); }
  double sum() const { return (older_sums_.empty() ? 0 : older_sums_.back()) + newer_sum_; }

 private:
  std::vector<double> newer_, older_sums_;  // older_sums_: of the rest of the older half, newest first
  double newer_sum_ = 0;
};

}  // namespace

CurvePoints Smoothed(const CurvePoints& points, int64_t count) {
  CurvePoints smooth;
  WindowSum last;
  for (const auto& [x, y] : points) {
    if (std::isfinite(y)) last.Push(y);
    if (last.size() > count) last.Pop();
    smooth.emplace_back(x, std::isfinite(y) ? last.sum() / static_cast<double>(last.size()) : y);
  }
  return smooth;
}

Axes AxesOf(const Chart& chart, int most_x, int most_y) {
  Range x, y;
  for (const Curve& curve : chart.curves) {
    for (const auto& point : curve.points) {
      if (!IsDrawn(point.first) || !IsDrawn(point.second)) continue;
      x.Add(point.first);
      y.Add(point.second);
    }
  }
  return {.x = AxisOf(x, most_x), .y = AxisOf(y, most_y)};
}

std::vector<std::string> TickLabels(const Axis& axis) {
  double largest = 0;
  for (double tick : axis.ticks) largest = std::max(largest, std::abs(tick));
  const double step = axis.ticks.size() > 1 ? axis.ticks[1] - axis.ticks[0] : axis.high - axis.low;
  const char* suffix = "";
  double unit = 1;
  for (const auto& [power, name] : {std::pair{1e3, "K"}, {1e6, "M"}, {1e9, "B"}, {1e12, "T"}}) {
    const double least = power == 1e3 ? 1e4 : power;  // 1500 steps are read as that
    if (largest < least || step < power / 100) continue;
    unit = power;
    suffix = name;
  }
  const bool is_extreme = largest >= 1e15 || (largest > 0 && largest < 1e-3);
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step / unit) - 1e-9)), 0, 12);
  std::vector<std::string> labels;
  for (double tick : axis.ticks) {
    char text[64];
    std::snprintf(text, sizeof text, is_extreme ? "%.*e" : "%.*f", is_extreme ? 1 : digits,
                  tick / (is_extreme ? 1 : unit));
    labels.push_back(text + std::string(tick == 0 || is_extreme ? "" : suffix));
  }
  return labels;
}

}  // namespace unipool
