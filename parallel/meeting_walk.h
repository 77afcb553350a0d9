// The walk over the slot table (step_walk.h) on a free wire with level rows, in the work of stages alone:
// ranks of a pool meet once a slot, and no exchange is followed. It is quick enough to compare thousands
// of layouts of layers (stage_balance.h).
#pragma once

#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"

namespace unipool {

// Times of the forward of one microbatch on one rank, in any unit. A backward takes twice as long.
struct StageWork {
  double dense = 0;     // a, one layer's attention and router
  double expert = 0;    // e, one layer's experts
  double head = 0;      // final norm, logits and loss
  int head_chunks = 1;  // pieces of equal size that parts of the head are made of (SlotSchedule::Head)
};

// Time of a step. With PoolSpan::kReplica the sum over slots of (the slowest stage's dense work and head
// + an even share of all stages' expert work); a backward's dense work counts in its own slot, where the
// executor does it in the next one. With PoolSpan::kStage stages meet only at their boundaries: the sum
// over time steps of the slowest stage's work. All stages meet in a spread head.
double WalkMeetings(const SlotSchedule& schedule, const StageWork& work, PoolSpan span);

}  // namespace unipool
