// Walks the slot table with two lanes, so that each lane's wire is covered by the other lane's compute.
// DESIGN section 5. All ranks of a pool group and of a pipeline start the same exchanges in the same order.
#pragma once

#include <vector>

#include "parallel/pipeline_stage.h"
#include "runtime/device_context.h"

namespace unipool {

// kInterleaved: the order of DESIGN section 5, in which a lane's wire is covered by the other lane. What
// covers what (a dense forward, e experts' forward; backward twice as much, half of an expert's being its
// weight gradient):
//   dispatch F   the backward of attention, second part of the weight gradients    2a + e/3
//   dispatch B   experts forward                                                   e
//   combine F    experts' input gradient                                           e
//   combine B    first part of the weight gradients, next dense forward, second    e + a
//
// The second part of the weight gradients is counted twice: dispatch F and combine B are both on the wire
// then and share a link, so they are the two that are exposed first.
//
// Between time steps the last layer's backward is finished only when the next time step's first dispatch F is
// on the wire, so that nearly the same holds there; hidden states of a boundary are covered by the first part
// of the weight gradients, their gradients by the second. The last stage's head stands where the schedule
// puts it (SlotSchedule::Head): in a lane in which the stage has no layer, after the lane's empty dispatch,
// so that nobody waits for it there and it covers the wires that a layer's dense work would. A rank in its
// head still holds up all others where the head takes longer than what it stands in for: they wait for what
// its experts answer. kSequential: in every slot the forward lane runs to its end, then the backward lane, so
// that the wire is covered by weight gradients alone: what overlap is compared with. Both give the same
// results bit for bit.
//
// On a device the host must know how many rows each expert has before it can enqueue the experts' products
// and the exchange of rows. Between asking (the router's kernels are enqueued) and knowing, the second part
// of the weight gradients is enqueued, so that the device has work while the copy, the exchange of counts and
// the host take their time; then dispatch F is covered by the backward of attention alone. Exposed are the
// slots before which no weight gradients were left: those of the first time step, and a few behind it.
enum class LaneOrder { kInterleaved, kSequential };

class SlotExecutor {
 public:
  // All must outlive it.
  SlotExecutor(const Mesh& mesh, TokenDispatcher& dispatcher, PipelineStage& stage, ExpertHost& experts,
               LaneOrder lane_order = LaneOrder::kInterleaved, DeviceContext* device = nullptr);
  // One optimizer step's worth of microbatches, forward and backward, or forward alone if the schedule says
  // so. Collective over the pool group and the pipeline: every rank runs the same schedule, which outlives
  // the call.
  void Run(const SlotSchedule& schedule, int64_t step);

 private:
  // A combine that is under way in a lane; where `work` is idle this rank only gives and gets nothing back.
  struct Pending {
    LaneWork work;
    bool under_way = false;
  };
  void RunSlot(SlotId slot);
  void WeightGradients(WeightPart part);  // of the last batch, if they are still to be computed
  // Numbered as in DESIGN section 5; the last two end what the slot before began. Head stands for the dense
  // work of a lane without a layer.
  void ForwardDense(SlotId slot);
  void BackwardDense(SlotId slot);
  void ForwardExperts(SlotId slot);
  void BackwardExperts(SlotId slot);
  void Head(Lane lane, SlotId slot);
  void FinishForward();
  void FinishBackward();
  // Around the slots of a time step: hidden states come from and go to the neighbouring stages.
  void BeginForwardTime(int time);
  void SendHidden(int time);  // to the next stage; in the last slot already where that has backward work
  void EndForwardTime(int time);
  void EndBackwardTime(int time);
  void StartBoundary(Lane lane, int time);  // sends what ended in `time`, receives what begins in the next
  void WaitBoundary(Lane lane);

  // "operation" of a lane's work on the profiler's time line: which lane, microbatch, stage and layer.
  class Range;

  LaneWork Work(Lane lane, SlotId slot) const { return schedule_->Work(lane, mesh_.position().stage, slot); }
  int Microbatch(Lane lane, int time) const {
    return schedule_->Microbatch(lane, mesh_.position().stage, time);
  }

  const Mesh& mesh_;
  TokenDispatcher& dispatcher_;
  PipelineStage& stage_;
  ExpertHost& experts_;
  const LaneOrder lane_order_;
  DeviceContext* const device_;  // whose profiler shows the steps as ranges; null: the CPU
  const SlotSchedule* schedule_ = nullptr;
  int64_t step_ = 0;
  Pending pending_forward_, pending_backward_;
  OwnerBatch weight_batch_;                   // the last one of the backward lane
  bool weights_pending_[2] = {false, false};  // per part
  Communicator::Ticket boundary_[2] = {};     // per lane
  bool boundary_under_way_[2] = {};
  std::vector<SendBlock> send_;
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
