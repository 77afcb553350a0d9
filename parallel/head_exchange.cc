#include "parallel/head_exchange.h"

#include <algorithm>
#include <utility>

#include "runtime/errors.h"

namespace unipool {

HeadExchange::HeadExchange(const Mesh& mesh)
    : mesh_(mesh), send_(mesh.shape().stages), recv_(mesh.shape().stages) {}

void HeadExchange::Begin(const SlotSchedule& schedule, SpreadHead* head, int64_t step) {
  CHECK(!under_way()) << "rows of the head of the step before are under way";
  CHECK(head || schedule.head_place() == HeadPlace::kLastStage) << "the stage cannot share its head";
  schedule_ = &schedule;
  head_ = head;
  step_ = step;
}

void HeadExchange::Start(Way way, int microbatch, int time) {
  CHECK(!under_way());
  const int stage = mesh_.position().stage, last = mesh_.shape().stages - 1;
  const bool is_rows = way == Way::kRows;
  std::fill(send_.begin(), send_.end(), SendBlock{});
  std::fill(recv_.begin(), recv_.end(), RecvBlock{});
  // Of `other`'s share of the tokens: from the last stage to `other`, or back. The last stage's own share is
  // where it is.
  const auto add = [&](int other, int share_of, bool sends) {
    const Tensor rows =
        is_rows ? head_->HeadRows(microbatch, share_of) : head_->HeadGradients(microbatch, share_of);
    if (sends) {
      send_[other] = {.data = rows.data, .bytes = rows.bytes()};
    } else {
      recv_[other] = {.data = rows.data, .bytes = rows.bytes()};
    }
  };
  if (stage == last) {
    for (int other = 0; other < last; ++other) add(other, other, is_rows);
  } else {
    add(last, stage, !is_rows);
  }
  ExchangeLabel label{.operation = is_rows ? "rows of the head" : "gradients of the head's rows",
                      .step = step_,
                      .slot = (time + 1) * schedule_->slots_per_time() - 1};
  label.stage = static_cast<int16_t>(stage);
  label.microbatch = microbatch;
  ticket_ = mesh_.pipeline().Start(send_, recv_, label);
  microbatch_ = microbatch;
}

void HeadExchange::Wait() {
  if (!under_way()) return;
  microbatch_ = -1;
  mesh_.pipeline().Wait(ticket_);
}

}  // namespace unipool
