// The static table that all ranks of a pool group walk. Pure arithmetic: no ranks, no bytes.
// The whole table of 2 ranks and 2 stages: parallel/SCHEDULE.md, "Slots and lanes". Letters: README.md.
//
// A step has time steps t = 0 .. B + 2S - 2. In time step t stage s runs the forward of microbatch t - s and
// the backward of microbatch t - (2S - 1 - s), each if it exists.
// A time step has n slots, n = the most layers of a stage. In slot u the forward lane runs the stage's layer
// u and the backward lane runs its layer n - 1 - u, each if the stage has that layer.
//
// The last stage also runs the head: final norm, logits, loss and their gradients. Every other stage would
// wait for it. So the last stage may get fewer layers (stage_balance.h), n_last < n, and its head runs where
// the dense work of the layers that it lacks would stand. The head is cut into 3 (n - n_last) parts. One part
// stands for the missing forward of a layer, and two parts stand for its backward, which takes twice as long.
//   Example, stages of 3 and 2 layers: n = 3, the head has 3 parts. Part 0 of microbatch m runs in slot 2 of
//   its forward time step, where layer 2 would stand. Parts 1 and 2 run in slot 0 of the next time step,
//   where the backward of layer 2 would stand.
// Where n_last = n, the head is one part after the slots of its time step, and all ranks of the pool group
// wait for it.
//
// Or the head is spread: each stage runs it for an even share of the microbatch's tokens, after the slots of
// the time step in which the microbatch left the last layer (parallel/HEAD.md). Stages are then even again.
#pragma once

#include <vector>

namespace unipool {

enum class Lane : int { kForward = 0, kBackward = 1 };

// Who runs the head: the last stage, or every stage of a pipeline for its share of the tokens.
enum class HeadPlace : int { kLastStage = 0, kSpread = 1 };

struct SlotId {
  int time = 0;   // t
  int index = 0;  // u
};

struct LaneWork {
  int microbatch = -1;
  int layer = -1;  // of the stage, from 0
  bool idle() const { return microbatch < 0; }
  bool operator==(const LaneWork&) const = default;
};

// Parts [begin, end) of a microbatch's head. They run in order.
struct HeadWork {
  int microbatch = -1;
  int begin = 0, end = 0;
  bool idle() const { return microbatch < 0; }
};

class SlotSchedule {
 public:
  // layers_per_stage: S entries, each >= 1. num_microbatches = B >= 1. forward_only (evaluation): the
  // backward lane is always idle, and the last time step is B + S - 2. With one stage there is nobody to
  // spread the head to: head_place() is kLastStage.
  SlotSchedule(std::vector<int> layers_per_stage, int num_microbatches, bool forward_only = false,
               HeadPlace head_place = HeadPlace::kLastStage);

  int num_stages() const { return static_cast<int>(layers_.size()); }
  int num_microbatches() const { return num_microbatches_; }
  int num_layers(int stage) const { return layers_[stage]; }
  int FirstLayer(int stage) const;                        // of the model: layers of the stages before
  int slots_per_time() const { return slots_per_time_; }  // n
  int num_times() const;                                  // B + 2S - 1, or B + S - 1 when forward only
  bool forward_only() const { return forward_only_; }
  HeadPlace head_place() const { return head_place_; }
  const std::vector<int>& layers_per_stage() const { return layers_; }

  // Microbatch that the stage's lane runs in time step t, or -1.
  int Microbatch(Lane lane, int stage, int time) const;
  // Microbatch and layer in a slot; idle when the lane has no microbatch or the stage has no such layer.
  LaneWork Work(Lane lane, int stage, SlotId slot) const;
  // The slot where (microbatch, layer) runs. REQUIRES: it runs.
  SlotId SlotOf(Lane lane, int stage, LaneWork work) const;
  // Does any stage have work in this lane and slot? If not, all ranks leave out the lane's exchanges there.
  // Example: 2 stages. In time step 1 no stage has a backward yet, so there is no dispatch B.
  bool AnyWork(Lane lane, SlotId slot) const;
  // Owners of all stages' rows compute a backward slot on rows in the order of its forward slot. Has it rows
  // of several forward slots, or not all rows of its only one, so that they are copied to be in order?
  bool JoinsForwardSlots(SlotId backward_slot) const;
  // Which parts of the head the last stage runs in a slot, where a lane's dense work of a missing layer would
  // stand. index == n, forward lane: after all slots. The forward lane's parts come behind the last layer's
  // slot. The backward lane's parts come in the next time step, before the first backward slot of the
  // microbatch. The last part comes before the next microbatch has left its last layer. Always idle where the
  // head is spread.
  HeadWork Head(Lane lane, SlotId slot) const;
  int num_head_parts() const;  // 3 (n - n_last); n - n_last when forward only; at least 1; 1 when spread
  // The microbatch whose spread head all stages run after the slots of a time step; -1: none.
  int SpreadHead(int time) const;
  // Most microbatches that a stage holds at once (forward begun, backward not ended): min(B, 2 (S - s)), or 1
  // when forward only. pipeline_stage.h has the one more at a boundary.
  int MaxInFlight(int stage) const;

 private:
  int FirstTime(Lane lane, int stage) const;  // time step of the stage's first microbatch
  int HeadPartsBefore(int index) const;       // of a microbatch in its forward time step, before slot `index`
  std::vector<int> layers_;
  int num_microbatches_, slots_per_time_ = 0;
  bool forward_only_;
  HeadPlace head_place_;
};

}  // namespace unipool
