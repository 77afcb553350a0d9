// Walks the slot table with two lanes, so that each lane's wire is covered by the other lane's compute. The
// order is parallel/SCHEDULE.md, "The order inside a slot". All ranks of a pool group and of a pipeline start
// the same exchanges in the same order.
#pragma once

#include "parallel/head_exchange.h"
#include "parallel/stage_boundary.h"
#include "parallel/work_times.h"
#include "runtime/device_context.h"

namespace unipool {

// Both orders give the same results bit for bit.
//
// kInterleaved: in every slot the two lanes take turns, so that one lane's rows travel while the other lane
// computes. What covers what, and where it does not: parallel/SCHEDULE.md, "What covers what".
//   Example, slot 3 of a step on 2 stages with 1 layer each: stage 1 routes microbatch 2. While its rows
//   travel, stage 1 begins the backward of microbatch 1. The gradients of microbatch 1 travel while the
//   experts work on microbatch 2.
//
// kSequential: in every slot the forward lane runs to its end, then the backward lane. Only weight gradients
// cover the wire. This order is what overlap is compared with.
enum class LaneOrder { kInterleaved, kSequential };

class SlotExecutor {
 public:
  // All must outlive it. `device`: whose profiler shows steps, slots and operations as ranges; null: the CPU.
  SlotExecutor(const Mesh& mesh, TokenDispatcher& dispatcher, PipelineStage& stage, ExpertHost& experts,
               LaneOrder lane_order = LaneOrder::kInterleaved, DeviceContext* device = nullptr);
  // Who hears of the rank's work from now on; null: nobody. It outlives its use.
  void set_meter(WorkMeter* meter) {
    meter_ = meter;
    dispatcher_.set_meter(meter);
  }
  // One optimizer step's worth of microbatches, forward and backward, or forward alone if the schedule says
  // so. Collective over the pool group and the pipeline: every rank runs the same schedule. `schedule`
  // outlives the call.
  void Run(const SlotSchedule& schedule, int64_t step);

 private:
  // A combine that is under way in a lane. Where `work` is idle, this rank only gives and gets nothing back.
  struct Pending {
    LaneWork work;
    bool under_way = false;
  };
  // Weight gradients of the last batch of the backward lane.
  struct WeightWork {
    OwnerBatch batch;
    double rows = 0;                   // of the batch, which may be gone when the second part runs
    double used = 0;                   // experts with rows
    bool pending[2] = {false, false};  // per part: still to be computed
  };

  void RunSlot(SlotId slot);
  // The four steps of a slot, numbered in RunSlot. A lane's dense step first finishes what the slot before
  // began in the lane.
  void ForwardDense(SlotId slot);
  void BackwardDense(SlotId slot);
  void ForwardExperts(SlotId slot);
  void BackwardExperts(SlotId slot);
  void FinishForward();
  void FinishBackward();
  // The last stage's head, where the schedule puts it: it stands for the dense work of a lane without a
  // layer.
  void Head(Lane lane, SlotId slot);
  // A spread head, which every stage shares in. Its rows leave the last stage at the end of a time step and
  // are worked on when weight gradients have covered their way. Gradients come back until the last stage's
  // first backward slot of the next time step.
  void SendHeadRows(int time);
  void RunSpreadHead(int time);
  void EndSpreadHead();
  void WeightGradients(WeightPart part);  // of the last batch, if they are still to be computed
  // Around the slots of a time step: hidden states come from and go to the neighbouring stages.
  void BeginForwardTime(int time);
  void SendHidden(int time);  // to the next stage; in the last slot already where that has backward work
  void EndForwardTime(int time);
  void EndBackwardTime(int time);

  // "operation" of a lane's work on the profiler's time line: which lane, microbatch, stage and layer.
  class Range;

  // For the meter; 0 without one.
  double Tokens(int microbatch) {
    return meter_ ? static_cast<double>(stage_.ForwardOutput(microbatch).dim(0)) : 0;
  }
  double Rows(LaneWork work) {
    return meter_ ? static_cast<double>(stage_.Handle(work.microbatch, work.layer).plan.num_rows) : 0;
  }

  // The forward lane's rows are gathered and sent without waiting for weight gradients that the compute queue
  // was given before. On one rank nothing is sent.
  bool SendsEarly() const { return device_ && mesh_.pool().size() > 1; }

  int stage() const { return mesh_.position().stage; }
  LaneWork Work(Lane lane, SlotId slot) const { return schedule_->Work(lane, stage(), slot); }
  int Microbatch(Lane lane, int time) const { return schedule_->Microbatch(lane, stage(), time); }

  const Mesh& mesh_;
  TokenDispatcher& dispatcher_;
  PipelineStage& stage_;
  ExpertHost& experts_;
  const LaneOrder lane_order_;
  DeviceContext* const device_;
  WorkMeter* meter_ = nullptr;
  // Of a device: what the router left is there; the rows to send are gathered.
  DeviceContext::Event routed_ = -1, gathered_ = -1;
  const SlotSchedule* schedule_ = nullptr;
  int64_t step_ = 0;
  Pending pending_[2];  // per lane
  WeightWork weights_;
  StageBoundary boundary_;
  HeadExchange head_exchange_;
};

}  // namespace unipool
