// The timeline of UniPool-lock, counted in updates that are done (models/lock/LOCK.md):
//
//   updates  0 ......... freeze_step ........... lock_step ............ end
//   stage      FULL        |     ANNEAL              |     LOCKED
//   choice     all         | others fade, 1 -> 0     | own experts alone
//   entropy    0 -> full   | full                    | full
//
// At freeze_step a validation decides which layer owns which expert.
#pragma once

#include <cstdint>

#include "configs/config.pb.h"

namespace unipool {

enum class LockStage : uint8_t { kFull = 0, kAnneal = 1, kLocked = 2 };

struct LockPlan {
  int64_t freeze_step = 0, lock_step = 0;

  LockStage StageAt(int64_t step) const;
  // What scores of experts that a layer does not own lose: 0 up to the freeze, half a cosine, 1 from the lock
  // on.
  double AnnealAt(int64_t step) const;
  // Share of the entropy loss's coefficient: rises linearly up to the freeze.
  double WarmupAt(int64_t step) const;
};

inline bool HasLock(const Config& config) {
  return config.moe().lock().assignment() != LockConfig::NONE;
}
// Of a run of train.steps. Fractions of a step are rounded half to even, as in the authors' code.
LockPlan LockPlanOf(const Config& config);

}  // namespace unipool
