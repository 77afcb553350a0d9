#include "parallel/token_dispatcher.h"

#include <algorithm>

#include "parallel/row_segments.h"
#include "parallel/row_stash.h"
#include "parallel/row_wire.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

enum class Phase { kIdle, kCounts, kDispatch, kExperts, kCombine };

constexpr const char* kDispatchName[] = {"dispatch forward", "dispatch backward"};
constexpr const char* kCombineName[] = {"combine forward", "combine backward"};

}  // namespace

struct TokenDispatcher::Impl {
  // What is under way in a lane.
  struct LaneState {
    Phase phase = Phase::kIdle;
    const SendPlan* source = nullptr;
    Tensor returned;
    OwnerPlan* plan = nullptr;
    RowWire::Ticket ticket = 0;
    Buffer send;  // this rank's rows in send order; on one rank in the backward lane the experts' dy
    Buffer wire;  // rows of the other ranks, source-major: first what came, then what goes back
  };

  const Mesh& mesh;
  const ExpertPlacement& placement;
  const DispatcherOptions options;
  Stream& stream;
  const int num_ranks, rank, num_experts;
  const int64_t row_bytes;
  const SlotSchedule* schedule = nullptr;
  int64_t step = -1;
  RowStash stash;
  RowWire wire;
  OwnerPlan backward_plan;
  LaneState lanes[2];
  Buffer dy;        // [R, D] backward batch
  Buffer combined;  // [R, D] expert outputs of the lane that the experts work for
  std::vector<char*> source_rows;
  std::vector<Segment> segments;

  Impl(const Mesh& mesh, const ExpertPlacement& placement, const DispatcherOptions& options, Stream& stream,
       MemoryMeter& memory);

  LaneState& lane_state(Lane lane) { return lanes[static_cast<int>(lane)]; }
  bool alone() const { return num_ranks == 1; }
  void Begin(Lane lane, SlotId slot, Phase from, Phase to);
  void CheckSource(Lane lane, SlotId slot, const DispatchHandle* source) const;
  Tensor Rows(Buffer& buffer, int64_t rows);
  std::span<char* const> SourceRows(LaneState& state, void* own);
  ExchangeLabel Label(const char* operation, SlotId slot) const {
    return {
        .operation = operation, .step = step, .slot = slot.time * schedule->slots_per_time() + slot.index};
  }
};

TokenDispatcher::Impl::Impl(const Mesh& mesh, const ExpertPlacement& placement,
                            const DispatcherOptions& options, Stream& stream, MemoryMeter& memory)
    : mesh(mesh),
      placement(placement),
      options(options),
      stream(stream),
      num_ranks(mesh.pool().size()),
      rank(mesh.pool().rank()),
      num_experts(static_cast<int>(placement.experts_of(rank).size())),
      row_bytes(options.row_size * SizeOf(options.dtype)),
      stash(mesh, num_experts,
            {.row_size = options.row_size,
             .kept_columns = options.kept_columns,
             .dtype = options.dtype,
             .max_rows = options.max_rows * num_ranks},
            stream, memory),
      wire(mesh, placement, row_bytes, stream),
      backward_plan(num_ranks, num_experts),
      source_rows(num_ranks) {
  CHECK_EQ(placement.num_ranks(), num_ranks);
  segments.reserve(static_cast<size_t>(num_ranks) * num_experts);
  const int64_t send_bytes = options.max_rows * row_bytes;
  lane_state(Lane::kBackward).send =
      Buffer::Reserve(memory, alone() ? MemoryKind::kActivations : MemoryKind::kExchange, send_bytes);
  if (alone()) return;
  const int64_t batch_bytes = num_ranks * send_bytes;
  lane_state(Lane::kForward).send = Buffer::Reserve(memory, MemoryKind::kExchange, send_bytes);
  for (LaneState& state : lanes) state.wire = Buffer::Reserve(memory, MemoryKind::kExchange, batch_bytes);
  dy = Buffer::Reserve(memory, MemoryKind::kActivations, batch_bytes);
  combined = Buffer::Reserve(memory, MemoryKind::kExchange, batch_bytes);
}

void TokenDispatcher::Impl::Begin(Lane lane, SlotId slot, Phase from, Phase to) {
  LaneState& state = lane_state(lane);
  CHECK(state.phase == from) << "lane " << static_cast<int>(lane) << ", time " << slot.time << ", slot "
                             << slot.index << ": phase " << static_cast<int>(to) << " follows "
                             << static_cast<int>(state.phase);
  state.phase = to;
}

void TokenDispatcher::Impl::CheckSource(Lane lane, SlotId slot, const DispatchHandle* source) const {
  CHECK_EQ(source == nullptr, schedule->Work(lane, mesh.position().stage, slot).idle())
      << "time " << slot.time << ", slot " << slot.index;
  if (source) CHECK_LE(source->plan.num_rows, options.max_rows);
}

Tensor TokenDispatcher::Impl::Rows(Buffer& buffer, int64_t rows) {
  buffer.Use(rows * row_bytes);
  return buffer.View(options.dtype, {rows, options.row_size});
}

// Where the rows of each source lie: in wire memory, and this rank's in `own`, which is in send order.
std::span<char* const> TokenDispatcher::Impl::SourceRows(LaneState& state, void* own) {
  for (int source = 0; source < num_ranks; ++source) {
    source_rows[source] =
        static_cast<char*>(state.wire.data()) + wire.FirstRow(*state.plan, source) * row_bytes;
  }
  source_rows[rank] =
      state.source ? static_cast<char*>(own) + state.source->rank_offsets[rank] * row_bytes : nullptr;
  return source_rows;
}

TokenDispatcher::TokenDispatcher(const Mesh& mesh, const ExpertPlacement& placement,
                                 const SlotSchedule& schedule, const DispatcherOptions& options,
                                 Stream& stream, MemoryMeter& memory)
    : impl_(std::make_unique<Impl>(mesh, placement, options, stream, memory)) {
  SetSchedule(schedule);
}

TokenDispatcher::~TokenDispatcher() = default;

void TokenDispatcher::SetSchedule(const SlotSchedule& schedule) {
  CHECK_EQ(schedule.num_stages(), impl_->mesh.shape().stages);
  for (const Impl::LaneState& state : impl_->lanes) CHECK(state.phase == Phase::kIdle) << "under way";
  impl_->schedule = &schedule;
  impl_->stash.SetSchedule(schedule);
}

void TokenDispatcher::set_step(int64_t step) {
  impl_->step = step;
}

int64_t TokenDispatcher::bytes_sent() const {
  return impl_->wire.bytes_sent();
}

void TokenDispatcher::StartCounts(SlotId slot, const DispatchHandle* source) {
  Impl& d = *impl_;
  d.Begin(Lane::kForward, slot, Phase::kIdle, Phase::kCounts);
  d.CheckSource(Lane::kForward, slot, source);
  Impl::LaneState& state = d.lane_state(Lane::kForward);
  state.source = source ? &source->plan : nullptr;
  state.plan = &d.stash.Begin(slot);
  std::fill(state.plan->rows.begin(), state.plan->rows.end(), 0);
  if (source) {
    std::copy_n(source->plan.rows_of_expert.begin() + d.placement.first_of(d.rank), d.num_experts,
                state.plan->rows.begin() + d.rank * d.num_experts);
  }
  if (d.alone()) {
    BuildOwnerPlan(*state.plan);
  } else {
    state.ticket = d.wire.StartCounts(*d.schedule, slot, state.source, *state.plan, d.Label("counts", slot));
  }
}

Tensor TokenDispatcher::SendRows(Lane lane, SlotId slot, const DispatchHandle& source) {
  if (impl_->alone() && lane == Lane::kForward) return impl_->stash.X(slot);
  return impl_->Rows(impl_->lane_state(lane).send, source.plan.num_rows);
}

void TokenDispatcher::StartDispatch(Lane lane, SlotId slot, const DispatchHandle* source,
                                    const Tensor& returned) {
  Impl& d = *impl_;
  Impl::LaneState& state = d.lane_state(lane);
  d.Begin(lane, slot, lane == Lane::kForward ? Phase::kCounts : Phase::kIdle, Phase::kDispatch);
  d.CheckSource(lane, slot, source);
  state.source = source ? &source->plan : nullptr;
  state.returned = returned;
  if (source) CHECK_EQ(returned.bytes(), source->plan.num_rows * d.row_bytes) << returned.ShapeString();
  if (lane == Lane::kBackward) {
    state.plan = &d.backward_plan;
    d.stash.FillRows(slot, *state.plan);
    BuildOwnerPlan(*state.plan);
  } else if (!d.alone()) {
    d.wire.WaitCounts(state.ticket);
    BuildOwnerPlan(*state.plan);
  }
  if (d.alone()) return;
  state.wire.Use(d.wire.NumRows(*state.plan) * d.row_bytes);
  state.ticket = d.wire.StartToOwners(state.source, state.send.data(), *state.plan, state.wire.data(),
                                      d.Label(kDispatchName[static_cast<int>(lane)], slot));
}

OwnerBatch TokenDispatcher::WaitDispatch(Lane lane, SlotId slot) {
  Impl& d = *impl_;
  Impl::LaneState& state = d.lane_state(lane);
  d.Begin(lane, slot, Phase::kDispatch, Phase::kExperts);
  CHECK(d.lanes[0].phase != d.lanes[1].phase) << "both lanes want the experts at once";
  OwnerBatch batch{.expert_offsets = state.plan->expert_offsets, .x = {}, .dy = {}, .kept = {}};
  if (lane == Lane::kForward) {
    batch.x = d.stash.X(slot);
  } else {
    const RowStash::Joined joined = d.stash.Join(slot, *state.plan);  // while the rows are on the wire
    batch.x = joined.x;
    batch.kept = joined.kept;
    batch.dy = d.Rows(d.alone() ? state.send : d.dy, state.plan->num_rows);
  }
  if (d.alone()) return batch;
  d.wire.Wait(state.ticket);
  GatherSegments(d.stream, *state.plan, d.row_bytes, d.SourceRows(state, state.send.data()),
                 lane == Lane::kForward ? batch.x.data : batch.dy.data, d.segments);
  return batch;
}

Tensor TokenDispatcher::KeepRows(SlotId slot) {
  return impl_->stash.Kept(slot);
}

Tensor TokenDispatcher::AnswerRows(Lane lane) {
  Impl& d = *impl_;
  Impl::LaneState& state = d.lane_state(lane);
  CHECK(state.phase == Phase::kExperts);
  return d.alone() ? state.returned : d.Rows(d.combined, state.plan->num_rows);
}

void TokenDispatcher::StartCombine(Lane lane, SlotId slot) {
  Impl& d = *impl_;
  d.Begin(lane, slot, Phase::kExperts, Phase::kCombine);
  if (d.alone()) return;
  Impl::LaneState& state = d.lane_state(lane);
  ScatterSegments(d.stream, *state.plan, d.row_bytes, d.combined.data(),
                  d.SourceRows(state, state.returned.data), d.segments);
  state.ticket = d.wire.StartToSources(state.source, state.returned.data, *state.plan, state.wire.data(),
                                       d.Label(kCombineName[static_cast<int>(lane)], slot));
}

void TokenDispatcher::WaitCombine(Lane lane) {
  Impl& d = *impl_;
  Impl::LaneState& state = d.lane_state(lane);
  CHECK(state.phase == Phase::kCombine) << static_cast<int>(state.phase);
  if (!d.alone()) d.wire.Wait(state.ticket);
  state.phase = Phase::kIdle;
}

}  // namespace unipool
