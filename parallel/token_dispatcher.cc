#include "parallel/token_dispatcher.h"

#include <algorithm>

#include "runtime/errors.h"

namespace unipool {

namespace {

constexpr const char* kDispatchName[] = {"dispatch forward", "dispatch backward"};
constexpr const char* kCombineName[] = {"combine forward", "combine backward"};

// A piece has experts on every rank.
int MostPieces(const ExpertPlacement& placement, int asked) {
  int fewest = asked;
  for (int rank = 0; rank < placement.num_ranks(); ++rank)
    fewest = std::min(fewest, placement.num_local(rank));
  return std::max(1, fewest);
}

int NumLocalExperts(const Mesh& mesh, const ExpertPlacement& placement) {
  CHECK_EQ(placement.num_ranks(), mesh.pool().size());
  return placement.num_local(mesh.pool().rank());
}

std::vector<int> StagesOfPool(const Mesh& mesh) {
  std::vector<int> stages(mesh.pool().size());
  for (int rank = 0; rank < mesh.pool().size(); ++rank) stages[rank] = mesh.StageOfPoolRank(rank);
  return stages;
}

}  // namespace

int NumUsedExperts(std::span<const int64_t> expert_offsets, Range experts) {
  int used = 0;
  for (int64_t e = experts.begin; e < experts.end; ++e) used += expert_offsets[e + 1] > expert_offsets[e];
  return used;
}

TokenDispatcher::TokenDispatcher(const Mesh& mesh, const ExpertPlacement& placement,
                                 const SlotSchedule& schedule, const DispatcherOptions& options,
                                 Stream& stream, MemoryMeter& memory)
    : mesh_(mesh),
      placement_(placement),
      options_(options),
      row_bytes_(options.row_size * SizeOf(options.dtype)),
      pieces_alone_(MostPieces(placement, options.pieces_alone)),
      told_{.rows = {options.kept_columns > 0, options.bank_slots}},
      stash_({.stage_of_source = StagesOfPool(mesh),
              .num_experts = NumLocalExperts(mesh, placement),
              .row_size = options.row_size,
              .kept_columns = options.kept_columns,
              .dtype = options.dtype,
              .max_rows = options.max_rows * mesh.pool().size()},
             stream, memory),
      wire_(mesh, placement, row_bytes_, stream),
      segments_(stream, row_bytes_, int64_t{mesh.pool().size()} * NumLocalExperts(mesh, placement)),
      backward_plan_(mesh.pool().size(), NumLocalExperts(mesh, placement)),
      source_rows_(mesh.pool().size()) {
  const int64_t send_bytes = options.max_rows * row_bytes_;
  lane_state(Lane::kBackward).send =
      Buffer::Reserve(memory, alone() ? MemoryKind::kActivations : MemoryKind::kExchange, send_bytes);
  if (!alone()) {
    const int64_t batch_bytes = mesh.pool().size() * send_bytes;
    lane_state(Lane::kForward).send = Buffer::Reserve(memory, MemoryKind::kExchange, send_bytes);
    for (LaneState& state : lanes_) state.wire = Buffer::Reserve(memory, MemoryKind::kExchange, batch_bytes);
    dy_ = Buffer::Reserve(memory, MemoryKind::kActivations, batch_bytes);
    answers_ = Buffer::Reserve(memory, MemoryKind::kExchange, batch_bytes);
  }
  for (LaneState& state : lanes_) state.tickets.reserve(pieces_alone_);
  SetSchedule(schedule);
}

int TokenDispatcher::NumPieces(Lane lane, SlotId slot) const {
  const Lane other = lane == Lane::kForward ? Lane::kBackward : Lane::kForward;
  return alone() || schedule_->AnyWork(other, slot) ? 1 : pieces_alone_;
}

void TokenDispatcher::SetSchedule(const SlotSchedule& schedule) {
  CHECK_EQ(schedule.num_stages(), mesh_.shape().stages);
  CHECK_EQ(NumLocalExperts(mesh_, placement_), backward_plan_.num_experts) << "the number of own experts";
  for (const LaneState& state : lanes_) CHECK(state.phase == Phase::kIdle) << "under way";
  schedule_ = &schedule;
  stash_.SetSchedule(schedule);
  told_.rows.BeginPass(schedule.forward_only());
}

void TokenDispatcher::MakeRoom(int64_t forward_rows, int64_t backward_rows) {
  for (const LaneState& state : lanes_) CHECK(state.phase == Phase::kIdle) << "under way";
  stash_.MakeRoom(forward_rows, backward_rows);
  if (alone()) return;
  lane_state(Lane::kForward).wire.TakeAhead(forward_rows * row_bytes_);
  lane_state(Lane::kBackward).wire.TakeAhead(backward_rows * row_bytes_);
  dy_.TakeAhead(backward_rows * row_bytes_);
  answers_.TakeAhead(std::max(forward_rows, backward_rows) * row_bytes_);
}

void TokenDispatcher::Begin(Lane lane, SlotId slot, Phase from, Phase to) {
  LaneState& state = lane_state(lane);
  CHECK(state.phase == from) << "lane " << static_cast<int>(lane) << ", time " << slot.time << ", slot "
                             << slot.index << ": phase " << static_cast<int>(to) << " follows "
                             << static_cast<int>(state.phase);
  state.phase = to;
}

void TokenDispatcher::CheckSource(Lane lane, SlotId slot, const DispatchHandle* source) const {
  CHECK_EQ(source == nullptr, schedule_->Work(lane, mesh_.position().stage, slot).idle())
      << "time " << slot.time << ", slot " << slot.index;
  if (source) CHECK_LE(source->plan.num_rows, options_.max_rows);
}

ExchangeLabel TokenDispatcher::Label(const char* operation, Lane lane, SlotId slot) const {
  const int stage = mesh_.position().stage;
  const LaneWork work = schedule_->Work(lane, stage, slot);
  ExchangeLabel label{
      .operation = operation, .step = step_, .slot = slot.time * schedule_->slots_per_time() + slot.index};
  label.lane = static_cast<int8_t>(lane);
  label.stage = static_cast<int16_t>(stage);
  label.microbatch = work.microbatch;
  if (!work.idle()) label.layer = static_cast<int16_t>(schedule_->FirstLayer(stage) + work.layer);
  return label;
}

int64_t TokenDispatcher::KeptBytes(const LaneState& state, int piece) const {
  return state.source ? wire_.RowsTo(*state.source, rank(), {piece, state.num_pieces}).size() * row_bytes_
                      : 0;
}

Tensor TokenDispatcher::Rows(Buffer& buffer, int64_t rows) const {
  buffer.Use(rows * row_bytes_);
  return buffer.View(options_.dtype, {rows, options_.row_size});
}

// Where the rows of each source lie: in wire memory, and this rank's in `own`, which is in send order.
std::span<char* const> TokenDispatcher::SourceRows(LaneState& state, void* own) {
  for (int source = 0; source < mesh_.pool().size(); ++source) {
    source_rows_[source] =
        static_cast<char*>(state.wire.data()) + wire_.FirstRow(*state.plan, source) * row_bytes_;
  }
  source_rows_[rank()] =
      state.source ? static_cast<char*>(own) + state.source->rank_offsets[rank()] * row_bytes_ : nullptr;
  return source_rows_;
}

void TokenDispatcher::BuildForwardPlan(OwnerPlan& plan) {
  BuildOwnerPlan(plan);
  if (plan.num_rows == 0) return;
  const auto used = static_cast<double>(NumUsedExperts(plan.expert_offsets, {0, plan.num_experts}));
  told_.used.shares += used / plan.num_experts;
  ++told_.used.batches;
}

void TokenDispatcher::StartCounts(SlotId slot, const DispatchHandle* source) {
  Begin(Lane::kForward, slot, Phase::kIdle, Phase::kCounts);
  CheckSource(Lane::kForward, slot, source);
  LaneState& state = lane_state(Lane::kForward);
  state.source = source ? &source->plan : nullptr;
  state.plan = &stash_.Begin(slot);
  std::fill(state.plan->rows.begin(), state.plan->rows.end(), 0);
  if (source) {
    const int num_experts = state.plan->num_experts;
    std::copy_n(source->plan.rows_of_expert.begin() + placement_.first_of(rank()), num_experts,
                state.plan->rows.begin() + rank() * num_experts);
  }
  if (alone()) {
    BuildForwardPlan(*state.plan);
  } else {
    state.counts =
        wire_.StartCounts(*schedule_, slot, state.source, *state.plan, Label("counts", Lane::kForward, slot));
  }
}

Tensor TokenDispatcher::SendRows(Lane lane, SlotId slot, const DispatchHandle& source) {
  if (alone() && lane == Lane::kForward) return stash_.X(slot);
  return Rows(lane_state(lane).send, source.plan.num_rows);
}

void TokenDispatcher::StartDispatch(Lane lane, SlotId slot, const DispatchHandle* source,
                                    const Tensor& returned) {
  LaneState& state = lane_state(lane);
  Begin(lane, slot, lane == Lane::kForward ? Phase::kCounts : Phase::kIdle, Phase::kDispatch);
  CheckSource(lane, slot, source);
  state.source = source ? &source->plan : nullptr;
  state.returned = returned;
  if (source) CHECK_EQ(returned.bytes(), source->plan.num_rows * row_bytes_) << returned.ShapeString();
  if (lane == Lane::kBackward) {
    state.plan = &backward_plan_;
    stash_.FillRows(slot, *state.plan);
    BuildOwnerPlan(*state.plan);
  } else if (!alone()) {
    wire_.WaitCounts(state.counts);
    BuildForwardPlan(*state.plan);
  }
  state.num_pieces = NumPieces(lane, slot);
  state.piece = 0;
  if (alone()) return;
  state.wire.Use(wire_.NumRows(*state.plan) * row_bytes_);
  ExchangeLabel label = Label(kDispatchName[static_cast<int>(lane)], lane, slot);
  label.row_bytes = static_cast<uint32_t>(row_bytes_);
  label.to_owners = true;
  state.tickets.clear();
  for (int piece = 0; piece < state.num_pieces; ++piece) {
    label.kept_bytes = KeptBytes(state, piece);
    state.tickets.push_back(wire_.StartToOwners(state.source, state.send.data(), *state.plan,
                                                state.wire.data(), {piece, state.num_pieces}, label));
  }
}

OwnerBatch TokenDispatcher::WaitDispatch(Lane lane, SlotId slot, int piece) {
  LaneState& state = lane_state(lane);
  Begin(lane, slot, Phase::kDispatch, Phase::kExperts);
  CHECK_EQ(piece, state.piece);
  CHECK(lanes_[0].phase != lanes_[1].phase) << "both lanes want the experts at once";
  if (piece == 0) state.batch = BatchOf(lane, slot);
  state.batch.experts = EvenPartition(state.plan->num_experts, state.num_pieces, piece);
  if (alone()) return state.batch;
  wire_.Wait(state.tickets[piece]);
  Metered(told_.meter, WorkKind::kRows, static_cast<double>(state.batch.piece_rows().size()), {}, [&] {
    segments_.Gather(*state.plan, state.batch.experts, SourceRows(state, state.send.data()),
                     lane == Lane::kForward ? state.batch.x.data : state.batch.dy.data);
  });
  return state.batch;
}

// Without the rows that are to come.
OwnerBatch TokenDispatcher::BatchOf(Lane lane, SlotId slot) {
  LaneState& state = lane_state(lane);
  OwnerBatch batch{
      .expert_offsets = state.plan->expert_offsets, .experts = {}, .x = {}, .dy = {}, .kept = {}};
  if (lane == Lane::kForward) {
    CountRows(lane, slot, /*is_joined=*/false);
    batch.x = stash_.X(slot);
    return batch;
  }
  // While the rows are on the wire. What is kept of a row is so many rows more.
  const bool is_copied = stash_.IsCopied(slot, *state.plan);
  CountRows(lane, slot, is_copied);
  const double kept = static_cast<double>(options_.kept_columns) / static_cast<double>(options_.row_size);
  const double copied = is_copied ? static_cast<double>(state.plan->num_rows) * (1 + kept) : 0;
  RowStash::Joined joined;
  Metered(is_copied ? told_.meter : nullptr, WorkKind::kRows, copied, {},
          [&] { joined = stash_.Join(slot, *state.plan); });
  batch.x = joined.x;
  batch.kept = joined.kept;
  batch.dy = Rows(alone() ? state.send : dy_, state.plan->num_rows);
  return batch;
}

void TokenDispatcher::CountRows(Lane lane, SlotId slot, bool is_joined) {
  const LaneState& state = lane_state(lane);
  const std::span<const int64_t> offsets = state.plan->expert_offsets;
  HeldRowsMeter::Batch batch{.lane = lane,
                             .rows = state.plan->num_rows,
                             .from_others = alone() ? 0 : wire_.NumRows(*state.plan),
                             .entry = lane == Lane::kForward ? stash_.EntryOfSlot(slot) : -1,
                             .is_joined = is_joined};
  for (int piece = 0; piece < state.num_pieces; ++piece) {
    const Range experts = EvenPartition(state.plan->num_experts, state.num_pieces, piece);
    batch.largest_piece = std::max(batch.largest_piece, offsets[experts.end] - offsets[experts.begin]);
  }
  told_.rows.Add(batch);
}

Tensor TokenDispatcher::AnswerRows(Lane lane) {
  LaneState& state = lane_state(lane);
  CHECK(state.phase == Phase::kExperts);
  return alone() ? state.returned : Rows(answers_, state.plan->num_rows);
}

void TokenDispatcher::StartCombine(Lane lane, SlotId slot, int piece) {
  LaneState& state = lane_state(lane);
  const bool is_last = piece + 1 == state.num_pieces;
  Begin(lane, slot, Phase::kExperts, is_last ? Phase::kCombine : Phase::kDispatch);
  CHECK_EQ(piece, state.piece++);
  if (alone()) return;
  Metered(told_.meter, WorkKind::kRows, static_cast<double>(state.batch.piece_rows().size()), {}, [&] {
    segments_.Scatter(*state.plan, state.batch.experts, answers_.data(),
                      SourceRows(state, state.returned.data));
  });
  ExchangeLabel label = Label(kCombineName[static_cast<int>(lane)], lane, slot);
  label.row_bytes = static_cast<uint32_t>(row_bytes_);
  label.kept_bytes = KeptBytes(state, piece);
  state.tickets[piece] = wire_.StartToSources(state.source, state.returned.data, *state.plan,
                                              state.wire.data(), {piece, state.num_pieces}, label);
}

void TokenDispatcher::WaitCombine(Lane lane) {
  LaneState& state = lane_state(lane);
  CHECK(state.phase == Phase::kCombine) << static_cast<int>(state.phase);
  if (!alone()) {
    for (const RowWire::Ticket ticket : state.tickets) wire_.Wait(ticket);
  }
  state.phase = Phase::kIdle;
}

}  // namespace unipool
