// Walks the slot table with two lanes, so that each lane's wire is covered by the other lane's compute.
// DESIGN section 5.
#pragma once

#include "parallel/pipeline_stage.h"

namespace unipool {

class SlotExecutor {
 public:
  SlotExecutor(const Mesh& mesh, TokenDispatcher& dispatcher, PipelineStage& stage, ExpertHost& experts);
  // One optimizer step's worth of microbatches, forward and backward (or forward alone if the schedule says
  // so). Collective over the pool group: every rank runs the same schedule.
  void Run(const SlotSchedule& schedule, int64_t step);

 private:
  void RunSlot(SlotId slot);
  // Numbered as in DESIGN section 5; the last two end what the slot before began.
  void ForwardDense(SlotId slot);
  void BackwardDense(SlotId slot);
  void ForwardExperts(SlotId slot);
  void BackwardExperts(SlotId slot);
  void FinishForward();
  void FinishBackward();
  void ReceiveBoundary(int time);
  void SendBoundary(int time);

  const Mesh& mesh_;
  TokenDispatcher& dispatcher_;
  PipelineStage& stage_;
  ExpertHost& experts_;
  const SlotSchedule* schedule_ = nullptr;
  int64_t step_ = 0;
  LaneWork pending_forward_, pending_backward_;  // combines started, not yet waited for
  bool forward_under_way_ = false, backward_under_way_ = false;
};

}  // namespace unipool
