// What travels for a spread head (parallel/HEAD.md): of each microbatch that left the last layer, rows of
// the final norm's output go from the last stage to all stages of the pipeline, to each its share of the
// tokens, and their gradients come back.
//
// All ranks of a pipeline start the same exchanges in the same order.
#pragma once

#include <vector>

#include "parallel/pipeline_stage.h"

namespace unipool {

class HeadExchange {
 public:
  // `mesh` must outlive it.
  explicit HeadExchange(const Mesh& mesh);
  // Begins a step. Nothing is under way. `head` and `schedule` outlive it; `head` may be null where the
  // schedule's head is not spread.
  void Begin(const SlotSchedule& schedule, SpreadHead* head, int64_t step);

  enum class Way { kRows, kGradients };
  // Sends what the last stage has of the microbatch, or what the others have made of it. `time`: the time
  // step whose slots are over.
  void Start(Way way, int microbatch, int time);
  bool under_way() const { return microbatch_ >= 0; }
  int microbatch() const { return microbatch_; }  // whose exchange is under way; -1: none
  // What was started has arrived, and what was sent may be written over.
  void Wait();

 private:
  const Mesh& mesh_;
  const SlotSchedule* schedule_ = nullptr;
  SpreadHead* head_ = nullptr;
  int64_t step_ = 0;
  int microbatch_ = -1;
  Communicator::Ticket ticket_ = {};
  std::vector<SendBlock> send_;  // [S]
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
