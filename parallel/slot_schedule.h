// The static table that all ranks of a pool group walk (DESIGN section 5). Pure arithmetic: no ranks, no
// bytes.
//
// Time steps t = 0 .. B + 2S - 2. Stage s runs the forward of microbatch t - s and, in the same time step,
// the backward of microbatch t - (2S - 1 - s), each if it exists. A time step has n = max layers per stage
// slots; in slot u the forward lane runs the stage's layer u and the backward lane its layer n - 1 - u, if
// the stage has it.
//
// The last stage also runs the head (final norm, logits, loss and their gradients), which every other stage
// would wait for. So it is given fewer layers (stage_balance.h), and its head runs where dense work of the
// layers it lacks would stand: cut into 3 (n - n_last) parts, one for the missing forward of a layer, two for
// its backward, which takes twice as long. Where n_last = n there is nothing to stand in for, and the head is
// one part after the slots of its time step, for which all ranks of the pool group wait.
#pragma once

#include <vector>

namespace unipool {

enum class Lane : int { kForward = 0, kBackward = 1 };

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

// Parts [begin, end) of a microbatch's head; they run in order.
struct HeadWork {
  int microbatch = -1;
  int begin = 0, end = 0;
  bool idle() const { return microbatch < 0; }
};

class SlotSchedule {
 public:
  // layers_per_stage: S entries, each >= 1. num_microbatches >= 1. forward_only: the backward lane is always
  // idle and time ends at B + S - 2 (evaluation).
  SlotSchedule(std::vector<int> layers_per_stage, int num_microbatches, bool forward_only = false);

  int num_stages() const { return static_cast<int>(layers_.size()); }
  int num_microbatches() const { return num_microbatches_; }
  int num_layers(int stage) const { return layers_[stage]; }
  int slots_per_time() const { return slots_per_time_; }  // n
  int num_times() const;                                  // B + 2S - 1, or B + S - 1 when forward only
  bool forward_only() const { return forward_only_; }

  // Microbatch that the stage's lane runs in time step t, or -1.
  int Microbatch(Lane lane, int stage, int time) const;
  // Microbatch and layer in a slot; idle when the lane has no microbatch or the stage has no such layer.
  LaneWork Work(Lane lane, int stage, SlotId slot) const;
  // The slot where (microbatch, layer) runs.
  SlotId SlotOf(Lane lane, int stage, LaneWork work) const;
  // Slots in which all ranks of the pool group are between: does any stage have work in this lane? Exchanges
  // of lanes that are idle everywhere are skipped by all ranks alike.
  bool AnyWork(Lane lane, SlotId slot) const;
  // What the last stage runs of its head in the place of a lane's dense work in a slot; index == n of the
  // forward lane: after the slots. Forward idle slots follow the last layer's slot; the backward lane's come
  // in the next time step, before the first backward slot of the microbatch. The last part comes before the
  // next microbatch has left its last layer.
  HeadWork Head(Lane lane, SlotId slot) const;
  int num_head_parts() const;  // 3 (n - n_last); n - n_last when forward only; at least 1
  // Most microbatches a stage holds at once (forward begun, backward not ended): at most 2 (S - s).
  int MaxInFlight(int stage) const;

 private:
  int FirstTime(Lane lane, int stage) const;  // time step of the stage's first microbatch
  int HeadPartsBefore(int index) const;       // of a microbatch in its forward time step, before slot `index`
  std::vector<int> layers_;
  int num_microbatches_, slots_per_time_ = 0;
  bool forward_only_;
};

}  // namespace unipool
