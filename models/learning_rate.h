// Learning rate with linear warm-up, a pure function of the step. It is defined beyond the last step too, so
// that a run that goes on can be compared with the run before.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace unipool {

struct LearningRateSchedule {
  // kStable: `highest` until the last `decay_steps` steps, which fall linearly to `lowest`.
  enum class Shape { kCosine, kConstant, kStable } shape = Shape::kCosine;
  double highest = 5e-4, lowest = 5e-5, warmup_fraction = 0.01;
  int64_t steps = 1;        // of the run
  int64_t decay_steps = 0;  // kCosine: length of the curve, 0: steps; kStable: falling steps, 0: a tenth
};

// Learning rate of update `step` (from 0): rises linearly over the first warmup_fraction of the curve's
// length, then follows the shape. A cosine reaches `lowest` at the last step of its length, and stays there.
inline double LearningRate(const LearningRateSchedule& schedule, int64_t step) {
  using Shape = LearningRateSchedule::Shape;
  const bool has_length = schedule.shape == Shape::kCosine && schedule.decay_steps > 0;
  const int64_t length = has_length ? schedule.decay_steps : schedule.steps;
  const auto warmup = static_cast<int64_t>(schedule.warmup_fraction * static_cast<double>(length));
  if (step < warmup) return schedule.highest * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (schedule.shape == Shape::kConstant) return schedule.highest;
  if (schedule.shape == Shape::kStable) {
    const int64_t falling =
        schedule.decay_steps > 0 ? schedule.decay_steps : std::max<int64_t>(1, length / 10);
    const double fallen = static_cast<double>(step + 1 - (length - falling)) / static_cast<double>(falling);
    return schedule.highest - (schedule.highest - schedule.lowest) * std::clamp(fallen, 0.0, 1.0);
  }
  const int64_t falling = std::max<int64_t>(1, length - 1 - warmup);
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(falling));
  return schedule.lowest +
         0.5 * (schedule.highest - schedule.lowest) * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace unipool
