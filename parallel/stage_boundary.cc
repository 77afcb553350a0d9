#include "parallel/stage_boundary.h"

#include <algorithm>

#include "runtime/errors.h"

namespace unipool {

StageBoundary::StageBoundary(const Mesh& mesh, PipelineStage& stage)
    : mesh_(mesh), stage_(stage), send_(mesh.shape().stages), recv_(mesh.shape().stages) {}

void StageBoundary::Begin(const SlotSchedule& schedule, int64_t step) {
  CHECK(!under_way_[0] && !under_way_[1]) << "a boundary of the step before is under way";
  schedule_ = &schedule;
  step_ = step;
}

void StageBoundary::Start(Lane lane, int time) {
  const bool forward = lane == Lane::kForward;
  const bool last_time = time + 1 == schedule_->num_times();
  if (mesh_.shape().stages == 1 || last_time || (!forward && schedule_->forward_only())) return;
  std::fill(send_.begin(), send_.end(), SendBlock{});
  std::fill(recv_.begin(), recv_.end(), RecvBlock{});
  const int stage = mesh_.position().stage;
  const int to = forward ? stage + 1 : stage - 1;
  const int from = forward ? stage - 1 : stage + 1;
  const auto exists = [&](int other) { return other >= 0 && other < mesh_.shape().stages; };
  const int ended = schedule_->Microbatch(lane, stage, time);
  const int begins = schedule_->Microbatch(lane, stage, time + 1);
  if (exists(to) && ended >= 0) {
    const Tensor output = forward ? stage_.ForwardOutput(ended) : stage_.BackwardOutput(ended);
    send_[to] = {.data = output.data, .bytes = output.bytes()};
  }
  if (exists(from) && begins >= 0) {
    const Tensor input = forward ? stage_.ForwardInput(begins) : stage_.BackwardInput(begins);
    recv_[from] = {.data = input.data, .bytes = input.bytes()};
  }
  const int i = static_cast<int>(lane);
  ExchangeLabel label{
      .operation = forward ? "hidden states to the next stage" : "gradients to the previous stage",
      .step = step_,
      .slot = (time + 1) * schedule_->slots_per_time() - 1};
  label.lane = static_cast<int8_t>(lane);
  label.stage = static_cast<int16_t>(stage);
  label.microbatch = ended;
  tickets_[i] = mesh_.pipeline().Start(send_, recv_, label);
  under_way_[i] = true;
}

void StageBoundary::Wait(Lane lane) {
  const int i = static_cast<int>(lane);
  if (!under_way_[i]) return;
  under_way_[i] = false;
  mesh_.pipeline().Wait(tickets_[i]);
}

}  // namespace unipool
