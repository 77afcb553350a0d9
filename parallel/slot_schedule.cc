#include "parallel/slot_schedule.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/errors.h"

namespace unipool {

SlotSchedule::SlotSchedule(std::vector<int> layers_per_stage, int num_microbatches, bool forward_only,
                           HeadPlace head_place)
    : layers_(std::move(layers_per_stage)),
      num_microbatches_(num_microbatches),
      forward_only_(forward_only),
      head_place_(layers_.size() == 1 ? HeadPlace::kLastStage : head_place) {
  CHECK(!layers_.empty());
  CHECK_GE(num_microbatches_, 1);
  CHECK_GE(*std::min_element(layers_.begin(), layers_.end()), 1) << "every stage needs a layer";
  slots_per_time_ = *std::max_element(layers_.begin(), layers_.end());
}

int SlotSchedule::FirstLayer(int stage) const {
  return std::accumulate(layers_.begin(), layers_.begin() + stage, 0);
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

bool SlotSchedule::JoinsForwardSlots(SlotId backward_slot) const {
  SlotId only{.time = -1, .index = -1};
  for (int stage = 0; stage < num_stages(); ++stage) {
    const LaneWork work = Work(Lane::kBackward, stage, backward_slot);
    if (work.idle()) continue;
    const SlotId slot = SlotOf(Lane::kForward, stage, work);
    if (only.time >= 0 && (slot.time != only.time || slot.index != only.index)) return true;
    only = slot;
  }
  for (int stage = 0; stage < num_stages() && only.time >= 0; ++stage) {
    const bool is_back = !Work(Lane::kBackward, stage, backward_slot).idle();
    if (!is_back && !Work(Lane::kForward, stage, only).idle()) return true;
  }
  return false;
}

int SlotSchedule::SpreadHead(int time) const {
  return head_place_ == HeadPlace::kSpread ? Microbatch(Lane::kForward, num_stages() - 1, time) : -1;
}

int SlotSchedule::num_head_parts() const {
  if (head_place_ == HeadPlace::kSpread) return 1;
  const int missing = slots_per_time_ - layers_.back();
  return std::max(1, forward_only_ ? missing : 3 * missing);
}

// One part in each forward slot that the last stage has no layer for, two more where the backward lane has
// none either.
int SlotSchedule::HeadPartsBefore(int index) const {
  const int layers = layers_.back(), missing = slots_per_time_ - layers;
  const int idle_in_both = forward_only_ ? 0 : std::max(0, std::min(index, missing) - layers);
  return index - layers + 2 * idle_in_both;
}

HeadWork SlotSchedule::Head(Lane lane, SlotId slot) const {
  if (head_place_ == HeadPlace::kSpread) return {};
  const int last = num_stages() - 1, n = slots_per_time_, layers = layers_[last], missing = n - layers;
  const auto work = [&](Lane microbatch_lane, int begin, int parts) {
    const int microbatch = Microbatch(microbatch_lane, last, slot.time);
    return microbatch < 0 ? HeadWork{} : HeadWork{microbatch, begin, begin + parts};
  };
  if (lane == Lane::kForward) {
    if (slot.index == n) return missing == 0 ? work(Lane::kForward, 0, 1) : HeadWork{};
    return slot.index < layers ? HeadWork{} : work(Lane::kForward, HeadPartsBefore(slot.index), 1);
  }
  if (forward_only_ || slot.index >= missing) return {};
  if (slot.index >= layers) return work(Lane::kForward, HeadPartsBefore(slot.index) + 1, 2);
  return work(Lane::kBackward, HeadPartsBefore(n) + 2 * slot.index, 2);
}

int SlotSchedule::MaxInFlight(int stage) const {
  // In the time step that begins microbatch m's forward, the one begun 2 (S - s) - 1 steps before ends its
  // backward.
  return forward_only_ ? 1 : std::min(num_microbatches_, 2 * (num_stages() - stage));
}

}  // namespace unipool
