// Walks the slot table with two lanes, so that each lane's wire is covered by the other lane's compute.
// DESIGN section 5. All ranks of a pool group and of a pipeline start the same exchanges in the same order.
#pragma once

#include <vector>

#include "parallel/pipeline_stage.h"

namespace unipool {

// kInterleaved: DESIGN section 5. kSequential: in every slot the forward lane runs to its end, then the
// backward lane, so that a lane's wire is covered by nothing of the other: what overlap is compared with.
// Both give the same results bit for bit.
enum class LaneOrder { kInterleaved, kSequential };

class SlotExecutor {
 public:
  // All must outlive it.
  SlotExecutor(const Mesh& mesh, TokenDispatcher& dispatcher, PipelineStage& stage, ExpertHost& experts,
               LaneOrder lane_order = LaneOrder::kInterleaved);
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
  // Numbered as in DESIGN section 5; the last two end what the slot before began.
  void ForwardDense(SlotId slot);
  void BackwardDense(SlotId slot);
  void ForwardExperts(SlotId slot);
  void BackwardExperts(SlotId slot);
  void FinishForward();
  void FinishBackward();
  // Around the slots of a time step: hidden states come from and go to the neighbouring stages. A lane's wire
  // is covered by the other lane: forward by the end of the last backward layer, backward by the next first
  // forward layer.
  void BeginForwardTime(int time);
  void BeginBackwardTime(int time);
  void EndForwardTime(int time);
  void EndBackwardTime(int time);
  void StartBoundary(Lane lane, int time);  // sends what ended in `time`, receives what begins in the next
  void WaitBoundary(Lane lane);

  LaneWork Work(Lane lane, SlotId slot) const { return schedule_->Work(lane, mesh_.position().stage, slot); }
  int Microbatch(Lane lane, int time) const {
    return schedule_->Microbatch(lane, mesh_.position().stage, time);
  }

  const Mesh& mesh_;
  TokenDispatcher& dispatcher_;
  PipelineStage& stage_;
  ExpertHost& experts_;
  const LaneOrder lane_order_;
  const SlotSchedule* schedule_ = nullptr;
  int64_t step_ = 0;
  Pending pending_forward_, pending_backward_;
  Communicator::Ticket boundary_[2] = {};  // per lane
  bool boundary_under_way_[2] = {};
  std::vector<SendBlock> send_;
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
