#include "models/lock/lock_plan.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace unipool {

LockStage LockPlan::StageAt(int64_t step) const {
  if (step >= lock_step) return LockStage::kLocked;
  return step >= freeze_step ? LockStage::kAnneal : LockStage::kFull;
}

double LockPlan::AnnealAt(int64_t step) const {
  if (step >= lock_step) return 1;
  if (step <= freeze_step) return 0;
  const double x = static_cast<double>(step - freeze_step) / static_cast<double>(lock_step - freeze_step);
  return (1 - std::cos(std::numbers::pi * x)) / 2;
}

double LockPlan::WarmupAt(int64_t step) const {
  if (step >= freeze_step) return 1;
  return static_cast<double>(step) / static_cast<double>(freeze_step);
}

LockPlan LockPlanOf(const Config& config) {
  const LockConfig& lock = config.moe().lock();
  const auto steps = static_cast<double>(config.train().steps());
  return {.freeze_step = static_cast<int64_t>(std::nearbyint(lock.entropy_end_fraction() * steps)),
          .lock_step = static_cast<int64_t>(std::nearbyint(lock.lock_fraction() * steps))};
}

}  // namespace unipool
