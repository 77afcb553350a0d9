#include "parallel/slot_schedule.h"

#include <algorithm>
#include <utility>

#include "runtime/errors.h"

namespace unipool {

SlotSchedule::SlotSchedule(std::vector<int> layers_per_stage, int num_microbatches, bool forward_only)
    : layers_(std::move(layers_per_stage)), num_microbatches_(num_microbatches), forward_only_(forward_only) {
  CHECK(!layers_.empty());
  CHECK_GE(num_microbatches_, 1);
  CHECK_GE(*std::min_element(layers_.begin(), layers_.end()), 1) << "every stage needs a layer";
  slots_per_time_ = *std::max_element(layers_.begin(), layers_.end());
}

int SlotSchedule::num_times() const {
  return num_microbatches_ + (forward_only_ ? num_stages() : 2 * num_stages()) - 1;
}

int SlotSchedule::FirstTime(Lane lane, int stage) const {
  return lane == Lane::kForward ? stage : 2 * num_stages() - 1 - stage;
}

int SlotSchedule::Microbatch(Lane lane, int stage, int time) const {
  if (lane == Lane::kBackward && forward_only_) return -1;
  const int microbatch = time - FirstTime(lane, stage);
  return microbatch >= 0 && microbatch < num_microbatches_ ? microbatch : -1;
}

LaneWork SlotSchedule::Work(Lane lane, int stage, SlotId slot) const {
  const int microbatch = Microbatch(lane, stage, slot.time);
  const int layer = lane == Lane::kForward ? slot.index : slots_per_time_ - 1 - slot.index;
  if (microbatch < 0 || layer >= layers_[stage]) return {};
  return {.microbatch = microbatch, .layer = layer};
}

SlotId SlotSchedule::SlotOf(Lane lane, int stage, LaneWork work) const {
  CHECK(!work.idle() && work.microbatch < num_microbatches_ && work.layer < layers_[stage])
      << "no slot for microbatch " << work.microbatch << ", layer " << work.layer << " of stage " << stage;
  CHECK(!(lane == Lane::kBackward && forward_only_)) << "a forward-only schedule has no backward slots";
  return {.time = FirstTime(lane, stage) + work.microbatch,
          .index = lane == Lane::kForward ? work.layer : slots_per_time_ - 1 - work.layer};
}

bool SlotSchedule::AnyWork(Lane lane, SlotId slot) const {
  for (int stage = 0; stage < num_stages(); ++stage) {
    if (!Work(lane, stage, slot).idle()) return true;
  }
  return false;
}

int SlotSchedule::MaxInFlight(int stage) const {
  // In the time step that begins microbatch m's forward, the one begun 2 (S - s) - 1 steps before ends its
  // backward.
  return forward_only_ ? 1 : std::min(num_microbatches_, 2 * (num_stages() - stage));
}

}  // namespace unipool
