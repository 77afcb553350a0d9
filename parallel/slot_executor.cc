#include "parallel/slot_executor.h"

#include <cstdio>

namespace unipool {

class SlotExecutor::Range {
 public:
  Range(const SlotExecutor& executor, const char* operation, Lane lane, LaneWork work)
      : range_(executor.device_, Text(executor, operation, lane, work)) {}
  Range(const SlotExecutor& executor, const char* operation, Lane lane, SlotId slot)
      : Range(executor, operation, lane, executor.Work(lane, slot)) {}

 private:
  const char* Text(const SlotExecutor& executor, const char* operation, Lane lane, LaneWork work) {
    if (!executor.device_) return "";
    std::snprintf(text_, sizeof(text_), "%s lane, microbatch %d, stage %d, layer %d: %s",
                  lane == Lane::kForward ? "forward" : "backward", work.microbatch, executor.stage(),
                  work.layer, operation);
    return text_;
  }
  char text_[128] = "";
  DeviceRange range_;
};

SlotExecutor::SlotExecutor(const Mesh& mesh, TokenDispatcher& dispatcher, PipelineStage& stage,
                           ExpertHost& experts, LaneOrder lane_order, DeviceContext* device)
    : mesh_(mesh),
      dispatcher_(dispatcher),
      stage_(stage),
      experts_(experts),
      lane_order_(lane_order),
      device_(device),
      boundary_(mesh, stage),
      head_exchange_(mesh) {
  if (!SendsEarly()) return;
  routed_ = device_->MakeEvent();
  gathered_ = device_->MakeEvent();
}

void SlotExecutor::Run(const SlotSchedule& schedule, int64_t step) {
  const std::string name = device_ ? Format("step %d", step) : "";
  const DeviceRange range(device_, name.c_str());
  schedule_ = &schedule;
  step_ = step;
  boundary_.Begin(schedule, step);
  head_exchange_.Begin(schedule, stage_.spread_head(), step);
  dispatcher_.SetSchedule(schedule);
  dispatcher_.set_step(step);
  for (int time = 0; time < schedule.num_times(); ++time) {
    BeginForwardTime(time);
    for (int index = 0; index < schedule.slots_per_time(); ++index) RunSlot({.time = time, .index = index});
    EndForwardTime(time);
    if (lane_order_ == LaneOrder::kSequential) EndBackwardTime(time);
    WeightGradients(WeightPart::kFirst);
    RunSpreadHead(time);
  }
  // The last dense backward covers what experts send when their gradients are complete.
  WeightGradients(WeightPart::kSecond);
  if (!schedule.forward_only()) experts_.FinishWeights(step);
  if (lane_order_ == LaneOrder::kInterleaved) EndBackwardTime(schedule.num_times() - 1);
}

void SlotExecutor::RunSlot(SlotId slot) {
  char name[48] = "";
  if (device_) std::snprintf(name, sizeof(name), "time %d, slot %d", slot.time, slot.index);
  const DeviceRange range(device_, name);
  if (lane_order_ == LaneOrder::kSequential) {
    ForwardDense(slot);
    Head(Lane::kForward, slot);
    ForwardExperts(slot);
    Head(Lane::kBackward, slot);  // before the lane's end, which may replace the output that it reads
    EndSpreadHead();
    FinishForward();
    BackwardDense(slot);
    BackwardExperts(slot);
    FinishBackward();
    return;
  }
  ForwardDense(slot);  // 1  combine B of the slot before is on the wire
  Head(Lane::kForward, slot);
  BackwardDense(slot);  // 2  dispatch F is on the wire; with the second part of the weight gradients
  Head(Lane::kBackward, slot);
  ForwardExperts(slot);   // 3  dispatch B is on the wire
  BackwardExperts(slot);  // 4  combine F is on the wire; with the first part of the weight gradients
}

void SlotExecutor::ForwardDense(SlotId slot) {
  FinishForward();
  if (!schedule_->AnyWork(Lane::kForward, slot)) return;
  const LaneWork work = Work(Lane::kForward, slot);
  if (work.idle()) {
    dispatcher_.StartCounts(slot, nullptr);
    dispatcher_.StartDispatch(Lane::kForward, slot, nullptr, {});
    return;
  }
  {
    const Range range(*this, "attention and router", Lane::kForward, work);
    Metered(meter_, WorkKind::kDenseForward, Tokens(work.microbatch), {},
            [&] { stage_.ForwardRoute(work.microbatch, work.layer); });
  }
  // Behind it nothing of the compute queue uses what dispatch F reads and fills, until the lane's experts do.
  if (SendsEarly()) device_->Record(routed_, DeviceQueue::kCompute);
  // While the counts are on their way to the host, the device has these to do.
  if (stage_.counts_on_device()) WeightGradients(WeightPart::kSecond);
  const Range range(*this, "row counts and dispatch", Lane::kForward, work);
  stage_.Plan(work.microbatch, work.layer,
              {.operation = "row counts",
               .step = step_,
               .slot = slot.time * schedule_->slots_per_time() + slot.index});
  const DispatchHandle& handle = stage_.Handle(work.microbatch, work.layer);
  dispatcher_.StartCounts(slot, &handle);
  const Tensor send_rows = dispatcher_.SendRows(Lane::kForward, slot, handle);
  const EarlyStart early(SendsEarly() ? device_ : nullptr, routed_);
  Metered(meter_, WorkKind::kRows, Rows(work), {}, [&] {
    stage_.ForwardPermute(work.microbatch, work.layer, send_rows,
                          SendsEarly() ? DeviceQueue::kCommunication : DeviceQueue::kCompute);
  });
  if (SendsEarly()) device_->Record(gathered_, DeviceQueue::kCommunication);
  dispatcher_.StartDispatch(Lane::kForward, slot, &handle,
                            stage_.ReturnedRows(Lane::kForward, work.microbatch, work.layer));
}

void SlotExecutor::BackwardDense(SlotId slot) {
  // They cover combine B too, unless gradients for the previous stage are to be covered.
  if (slot.index > 0 || mesh_.shape().stages == 1) WeightGradients(WeightPart::kSecond);
  if (slot.index == 0 && slot.time > 0 && lane_order_ == LaneOrder::kInterleaved) {
    EndBackwardTime(slot.time - 1);
  }
  FinishBackward();
  WeightGradients(WeightPart::kSecond);
  if (slot.index == 0) {
    boundary_.Wait(Lane::kBackward);
    EndSpreadHead();
  }
  if (!schedule_->AnyWork(Lane::kBackward, slot)) return;
  const LaneWork work = Work(Lane::kBackward, slot);
  if (work.idle()) {
    dispatcher_.StartDispatch(Lane::kBackward, slot, nullptr, {});
    return;
  }
  const Range range(*this, "dispatch", Lane::kBackward, work);
  const DispatchHandle& handle = stage_.Handle(work.microbatch, work.layer);
  const Tensor send_rows = dispatcher_.SendRows(Lane::kBackward, slot, handle);
  Metered(meter_, WorkKind::kRows, Rows(work), {},
          [&] { stage_.BackwardUnpermute(work.microbatch, work.layer, send_rows); });
  dispatcher_.StartDispatch(Lane::kBackward, slot, &handle,
                            stage_.ReturnedRows(Lane::kBackward, work.microbatch, work.layer));
}

void SlotExecutor::ForwardExperts(SlotId slot) {
  if (!schedule_->AnyWork(Lane::kForward, slot)) return;
  const Range range(*this, "experts", Lane::kForward, slot);
  // An exchange in which this rank has nothing for others and gets nothing waits for nothing.
  if (SendsEarly()) device_->AwaitEvent(DeviceQueue::kCompute, gathered_);
  for (int piece = 0; piece < dispatcher_.NumPieces(Lane::kForward, slot); ++piece) {
    const OwnerBatch batch = dispatcher_.WaitDispatch(Lane::kForward, slot, piece);
    const Tensor keep = dispatcher_.KeepRows(slot), answers = dispatcher_.AnswerRows(Lane::kForward);
    Metered(meter_, WorkKind::kExpertsForward, static_cast<double>(batch.piece_rows().size()),
            {.experts = static_cast<double>(batch.NumUsedInPiece())},
            [&] { experts_.Forward(batch, keep, answers); });
    dispatcher_.StartCombine(Lane::kForward, slot, piece);
  }
  pending_[static_cast<int>(Lane::kForward)] = {.work = Work(Lane::kForward, slot), .under_way = true};
}

void SlotExecutor::BackwardExperts(SlotId slot) {
  if (!schedule_->AnyWork(Lane::kBackward, slot)) return;
  const Range range(*this, "experts", Lane::kBackward, slot);
  const bool is_last = slot.index + 1 == schedule_->slots_per_time();
  const int num_pieces = dispatcher_.NumPieces(Lane::kBackward, slot);
  for (int piece = 0; piece < num_pieces; ++piece) {
    const OwnerBatch batch = dispatcher_.WaitDispatch(Lane::kBackward, slot, piece);
    const Tensor answers = dispatcher_.AnswerRows(Lane::kBackward);
    Metered(meter_, WorkKind::kExpertsInput, static_cast<double>(batch.piece_rows().size()),
            {.experts = static_cast<double>(batch.NumUsedInPiece())},
            [&] { experts_.BackwardInput(batch, answers); });
    weights_ = {.batch = batch,
                .rows = static_cast<double>(batch.num_rows()),
                .used = static_cast<double>(batch.NumUsed()),
                .pending = {true, true}};
    // Hidden states go ahead of the last combine, so that they need not wait until it has left.
    if (is_last && piece + 1 == num_pieces && lane_order_ == LaneOrder::kInterleaved) SendHidden(slot.time);
    dispatcher_.StartCombine(Lane::kBackward, slot, piece);
  }
  pending_[static_cast<int>(Lane::kBackward)] = {.work = Work(Lane::kBackward, slot), .under_way = true};
  // In the last slot of a time step they are left until hidden states are on their way to the next stage.
  if (!is_last || lane_order_ == LaneOrder::kSequential) WeightGradients(WeightPart::kFirst);
  if (lane_order_ == LaneOrder::kSequential) WeightGradients(WeightPart::kSecond);
}

void SlotExecutor::WeightGradients(WeightPart part) {
  bool& pending = weights_.pending[static_cast<int>(part)];
  const DeviceRange range(pending ? device_ : nullptr, "weight gradients");
  const int index = static_cast<int>(part);
  if (pending) {
    Metered(meter_, WorkKind::kExpertsWeights, weights_.rows,
            {.begin = index, .end = index + 1, .num_parts = 2, .experts = weights_.used},
            [&] { experts_.BackwardWeights(weights_.batch, part); });
  }
  pending = false;
}

void SlotExecutor::Head(Lane lane, SlotId slot) {
  if (stage() + 1 < schedule_->num_stages()) return;
  const HeadWork head = schedule_->Head(lane, slot);
  if (head.begin == head.end) return;
  const Range range(*this, "head", Lane::kForward, LaneWork{.microbatch = head.microbatch, .layer = -1});
  const int parts = schedule_->num_head_parts();
  // Forward alone is a third of the work.
  const double tokens = Tokens(head.microbatch) / (schedule_->forward_only() ? 3 : 1);
  for (int part = head.begin; part < head.end; ++part) {
    Metered(meter_, WorkKind::kHead, tokens, {.begin = part, .end = part + 1, .num_parts = parts},
            [&] { stage_.Head(head.microbatch, part, parts); });
  }
}

void SlotExecutor::SendHeadRows(int time) {
  const int microbatch = schedule_->SpreadHead(time);
  if (microbatch < 0) return;
  if (stage() + 1 == schedule_->num_stages()) stage_.spread_head()->BeginHead(microbatch);
  head_exchange_.Start(HeadExchange::Way::kRows, microbatch, time);
}

void SlotExecutor::RunSpreadHead(int time) {
  const int microbatch = schedule_->SpreadHead(time);
  if (microbatch < 0) return;
  SpreadHead& head = *stage_.spread_head();
  const Range range(*this, "head", Lane::kForward, LaneWork{.microbatch = microbatch, .layer = -1});
  head_exchange_.Wait();
  const bool is_training = !schedule_->forward_only();
  const auto tokens = static_cast<double>(head.HeadRows(microbatch, stage()).dim(0));
  const double rest = is_training ? head.HeadRest(microbatch) : 2.0 / 3;  // forward alone is a third
  Metered(meter_, WorkKind::kHead, tokens, {.share = 1 - rest}, [&] { head.RunHead(microbatch); });
  if (!is_training) return;
  head_exchange_.Start(HeadExchange::Way::kGradients, microbatch, time);
  if (rest > 0)
    Metered(meter_, WorkKind::kHead, tokens, {.share = rest}, [&] { head.RunHeadRest(microbatch); });
}

void SlotExecutor::EndSpreadHead() {
  const int microbatch = head_exchange_.microbatch();
  if (microbatch < 0) return;
  head_exchange_.Wait();
  if (stage() + 1 == schedule_->num_stages()) stage_.spread_head()->EndHead(microbatch);
}

void SlotExecutor::FinishForward() {
  Pending& pending = pending_[static_cast<int>(Lane::kForward)];
  if (!pending.under_way) return;
  pending.under_way = false;
  const LaneWork work = pending.work;
  const Range range(*this, "combine", Lane::kForward, work);
  dispatcher_.WaitCombine(Lane::kForward);
  if (work.idle()) return;
  Metered(meter_, WorkKind::kRows, Rows(work), {},
          [&] { stage_.ForwardUnpermute(work.microbatch, work.layer); });
}

void SlotExecutor::FinishBackward() {
  Pending& pending = pending_[static_cast<int>(Lane::kBackward)];
  if (!pending.under_way) return;
  pending.under_way = false;
  const LaneWork work = pending.work;
  const Range range(*this, "combine, router and attention", Lane::kBackward, work);
  dispatcher_.WaitCombine(Lane::kBackward);
  if (work.idle()) return;
  Metered(meter_, WorkKind::kRows, Rows(work), {},
          [&] { stage_.BackwardPermute(work.microbatch, work.layer); });
  Metered(meter_, WorkKind::kDenseBackward, Tokens(work.microbatch), {},
          [&] { stage_.BackwardRoute(work.microbatch, work.layer); });
}

void SlotExecutor::BeginForwardTime(int time) {
  boundary_.Wait(Lane::kForward);
  const int microbatch = Microbatch(Lane::kForward, time);
  if (microbatch >= 0) stage_.BeginForward(microbatch);
}

void SlotExecutor::EndForwardTime(int time) {
  SendHidden(time);
  FinishForward();
  Head(Lane::kForward, {.time = time, .index = schedule_->slots_per_time()});
  SendHeadRows(time);
  const int microbatch = Microbatch(Lane::kForward, time);
  if (microbatch >= 0) stage_.EndForward(microbatch);
}

void SlotExecutor::SendHidden(int time) {
  if (boundary_.under_way(Lane::kForward)) return;  // in the last slot already
  const bool sends = stage() + 1 < schedule_->num_stages();
  if (sends) FinishForward();
  boundary_.Start(Lane::kForward, time);
}

void SlotExecutor::EndBackwardTime(int time) {
  FinishBackward();
  const int microbatch = Microbatch(Lane::kBackward, time);
  if (microbatch >= 0) stage_.EndBackward(microbatch);
  boundary_.Start(Lane::kBackward, time);
}

}  // namespace unipool
