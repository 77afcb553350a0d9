// Cosine learning rate with linear warm-up, a pure function of the step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace unipool {

struct LearningRateSchedule {
  double highest = 5e-4, lowest = 5e-5, warmup_fraction = 0.01;
  int64_t steps = 1;
};

// Learning rate of update `step` (from 0): rises linearly over the first warmup_fraction of the steps, then
// falls along half a cosine to `lowest` at the last step.
inline double LearningRate(const LearningRateSchedule& schedule, int64_t step) {
  const auto warmup = static_cast<int64_t>(schedule.warmup_fraction * static_cast<double>(schedule.steps));
  if (step < warmup) return schedule.highest * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const int64_t falling = std::max<int64_t>(1, schedule.steps - 1 - warmup);
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(falling));
  return schedule.lowest +
         0.5 * (schedule.highest - schedule.lowest) * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace unipool
