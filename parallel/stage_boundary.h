// What travels between neighbouring stages at the end of a time step: hidden states to the next stage
// (forward lane) and their gradients to the previous stage (backward lane).
//
// A microbatch that ended on a stage in time step t begins on its neighbour in time step t + 1, so a boundary
// is crossed between two time steps. All ranks of a pipeline start the same exchanges in the same order, also
// ranks that have nothing to send.
#pragma once

#include <vector>

#include "parallel/pipeline_stage.h"

namespace unipool {

class StageBoundary {
 public:
  // Both must outlive it.
  StageBoundary(const Mesh& mesh, PipelineStage& stage);
  // Begins a step. `schedule` outlives it. Nothing is under way.
  void Begin(const SlotSchedule& schedule, int64_t step);

  // Sends what ended in `time`, receives what begins in time + 1. Does nothing with one stage, after the last
  // time step, and in the backward lane of a forward-only schedule.
  void Start(Lane lane, int time);
  bool under_way(Lane lane) const { return under_way_[static_cast<int>(lane)]; }
  // What was started has arrived, and what was sent may be written over. Does nothing if nothing is under
  // way.
  void Wait(Lane lane);

 private:
  const Mesh& mesh_;
  PipelineStage& stage_;
  const SlotSchedule* schedule_ = nullptr;
  int64_t step_ = 0;
  Communicator::Ticket tickets_[2] = {};  // per lane
  bool under_way_[2] = {};
  std::vector<SendBlock> send_;  // [S]
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
