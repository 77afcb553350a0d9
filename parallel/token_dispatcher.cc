#include "parallel/token_dispatcher.h"

#include <algorithm>
#include <cstring>

#include "parallel/row_stash.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

enum class Phase { kIdle, kCounts, kDispatch, kExperts, kCombine };

constexpr const char* kDispatchName[] = {"dispatch forward", "dispatch backward"};
constexpr const char* kCombineName[] = {"combine forward", "combine backward"};

char* RowAt(void* data, int64_t row, int64_t row_bytes) {
  return static_cast<char*>(data) + row * row_bytes;
}

}  // namespace

struct TokenDispatcher::Impl {
  // What is under way in a lane.
  struct LaneState {
    Phase phase = Phase::kIdle;
    const DispatchHandle* source = nullptr;
    Tensor returned;
    OwnerPlan* plan = nullptr;
    Communicator::Ticket ticket = 0;
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
  int64_t step = -1, bytes_sent = 0;
  RowStash stash;
  OwnerPlan backward_plan;
  LaneState lanes[2];
  Buffer dy;        // [R, D] backward batch
  Buffer combined;  // [R, D] expert outputs of the lane that the experts work for
  std::vector<SendBlock> send_blocks;
  std::vector<RecvBlock> recv_blocks;

  Impl(const Mesh& mesh, const ExpertPlacement& placement, const DispatcherOptions& options, Stream& stream,
       MemoryMeter& memory);

  LaneState& lane_state(Lane lane) { return lanes[static_cast<int>(lane)]; }
  bool alone() const { return num_ranks == 1; }
  bool IsIdle(Lane lane, SlotId slot, int source) const {
    return schedule->Work(lane, mesh.StageOfPoolRank(source), slot).idle();
  }
  void Begin(Lane lane, SlotId slot, Phase from, Phase to);
  void CheckSource(Lane lane, SlotId slot, const DispatchHandle* source) const;
  Tensor Rows(Buffer& buffer, int64_t rows);
  int64_t WireRow(const OwnerPlan& plan, int source) const;
  char* SourceBase(LaneState& state, int source, void* own);

  // Communication only.
  void ClearBlocks();
  Communicator::Ticket Start(const char* operation, SlotId slot);
  void Wait(Communicator::Ticket ticket);
  void SendCounts(SlotId slot, LaneState& state);
  void SendToOwners(Lane lane, SlotId slot, LaneState& state);
  void SendToSources(Lane lane, SlotId slot, LaneState& state);

  // Local work only: between the blocks of each source and the batches of each expert.
  void GatherToExperts(LaneState& state, const Tensor& batch);
  void ScatterToSources(LaneState& state);
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
            memory),
      backward_plan(num_ranks, num_experts),
      send_blocks(num_ranks),
      recv_blocks(num_ranks) {
  CHECK_EQ(placement.num_ranks(), num_ranks);
  CHECK(stream.device() == Device::kCpu) << "dispatch moves host memory only";
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
  CHECK_EQ(source == nullptr, IsIdle(lane, slot, rank)) << "time " << slot.time << ", slot " << slot.index;
  if (source) CHECK_LE(source->plan.num_rows, options.max_rows);
}

Tensor TokenDispatcher::Impl::Rows(Buffer& buffer, int64_t rows) {
  buffer.Use(rows * row_bytes);
  return buffer.View(options.dtype, {rows, options.row_size});
}

// The own rows are never on the wire, so its memory has no room for them.
int64_t TokenDispatcher::Impl::WireRow(const OwnerPlan& plan, int source) const {
  const int64_t own_rows = plan.source_offsets[rank + 1] - plan.source_offsets[rank];
  return plan.source_offsets[source] - (source > rank ? own_rows : 0);
}

// Where a source's rows lie: on the wire, or for this rank itself in `own`, which is in send order.
char* TokenDispatcher::Impl::SourceBase(LaneState& state, int source, void* own) {
  if (source != rank) return RowAt(state.wire.data(), WireRow(*state.plan, source), row_bytes);
  return state.source ? RowAt(own, state.source->plan.rank_offsets[rank], row_bytes) : nullptr;
}

void TokenDispatcher::Impl::ClearBlocks() {
  std::fill(send_blocks.begin(), send_blocks.end(), SendBlock{});
  std::fill(recv_blocks.begin(), recv_blocks.end(), RecvBlock{});
}

Communicator::Ticket TokenDispatcher::Impl::Start(const char* operation, SlotId slot) {
  int64_t bytes = 0;
  for (const SendBlock& block : send_blocks) bytes += block.bytes;
  bytes_sent += bytes;
  KernelScope scope(stream, Op::kExchange, 0, static_cast<double>(bytes));
  return mesh.pool().Start(
      send_blocks, recv_blocks,
      {.operation = operation, .step = step, .slot = slot.time * schedule->slots_per_time() + slot.index});
}

void TokenDispatcher::Impl::Wait(Communicator::Ticket ticket) {
  KernelScope scope(stream, Op::kExchange, 0, 0);
  mesh.pool().Wait(ticket);
}

// A rank sends one count per expert of the receiver; ranks without work send nothing, as everyone knows.
void TokenDispatcher::Impl::SendCounts(SlotId slot, LaneState& state) {
  ClearBlocks();
  for (int other = 0; other < num_ranks; ++other) {
    if (other == rank) continue;
    if (state.source) {
      send_blocks[other] = {
          .data = state.source->plan.rows_of_expert.data() + placement.first_of(other),
          .bytes = static_cast<int64_t>(placement.experts_of(other).size() * sizeof(int32_t))};
    }
    if (!IsIdle(Lane::kForward, slot, other)) {
      recv_blocks[other] = {.data = state.plan->rows.data() + other * num_experts,
                            .bytes = static_cast<int64_t>(num_experts * sizeof(int32_t))};
    }
  }
  state.ticket = Start("counts", slot);
}

void TokenDispatcher::Impl::SendToOwners(Lane lane, SlotId slot, LaneState& state) {
  ClearBlocks();
  const OwnerPlan& plan = *state.plan;
  state.wire.Use((plan.num_rows - (plan.source_offsets[rank + 1] - plan.source_offsets[rank])) * row_bytes);
  for (int other = 0; other < num_ranks; ++other) {
    if (other == rank) continue;
    if (state.source) {
      const std::vector<int64_t>& offsets = state.source->plan.rank_offsets;
      send_blocks[other] = {.data = RowAt(state.send.data(), offsets[other], row_bytes),
                            .bytes = (offsets[other + 1] - offsets[other]) * row_bytes};
    }
    recv_blocks[other] = {.data = SourceBase(state, other, nullptr),
                          .bytes = (plan.source_offsets[other + 1] - plan.source_offsets[other]) * row_bytes};
  }
  state.ticket = Start(kDispatchName[static_cast<int>(lane)], slot);
}

void TokenDispatcher::Impl::SendToSources(Lane lane, SlotId slot, LaneState& state) {
  ClearBlocks();
  const OwnerPlan& plan = *state.plan;
  for (int other = 0; other < num_ranks; ++other) {
    if (other == rank) continue;
    send_blocks[other] = {.data = SourceBase(state, other, nullptr),
                          .bytes = (plan.source_offsets[other + 1] - plan.source_offsets[other]) * row_bytes};
    if (state.source) {
      const std::vector<int64_t>& offsets = state.source->plan.rank_offsets;
      recv_blocks[other] = {.data = RowAt(state.returned.data, offsets[other], row_bytes),
                            .bytes = (offsets[other + 1] - offsets[other]) * row_bytes};
    }
  }
  state.ticket = Start(kCombineName[static_cast<int>(lane)], slot);
}

void TokenDispatcher::Impl::GatherToExperts(LaneState& state, const Tensor& batch) {
  const OwnerPlan& plan = *state.plan;
  KernelScope scope(stream, Op::kPermute, 0, 2.0 * static_cast<double>(plan.num_rows * row_bytes));
  for (int source = 0; source < num_ranks; ++source) {
    const char* from = SourceBase(state, source, state.send.data());
    for (int i = source * num_experts; i < (source + 1) * num_experts; ++i) {
      if (plan.rows[i] == 0) continue;
      std::memcpy(RowAt(batch.data, plan.first_expert_row[i], row_bytes),
                  from + plan.first_source_row[i] * row_bytes, plan.rows[i] * row_bytes);
    }
  }
}

void TokenDispatcher::Impl::ScatterToSources(LaneState& state) {
  const OwnerPlan& plan = *state.plan;
  KernelScope scope(stream, Op::kPermute, 0, 2.0 * static_cast<double>(plan.num_rows * row_bytes));
  for (int source = 0; source < num_ranks; ++source) {
    char* to = SourceBase(state, source, state.returned.data);
    for (int i = source * num_experts; i < (source + 1) * num_experts; ++i) {
      if (plan.rows[i] == 0) continue;
      std::memcpy(to + plan.first_source_row[i] * row_bytes,
                  RowAt(combined.data(), plan.first_expert_row[i], row_bytes), plan.rows[i] * row_bytes);
    }
  }
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
  for (const Impl::LaneState& state : impl_->lanes)
    CHECK(state.phase == Phase::kIdle) << "a lane is under way";
  impl_->schedule = &schedule;
  impl_->stash.SetSchedule(schedule);
}

void TokenDispatcher::set_step(int64_t step) {
  impl_->step = step;
}
int64_t TokenDispatcher::bytes_sent() const {
  return impl_->bytes_sent;
}

void TokenDispatcher::StartCounts(SlotId slot, const DispatchHandle* source) {
  Impl& d = *impl_;
  d.Begin(Lane::kForward, slot, Phase::kIdle, Phase::kCounts);
  d.CheckSource(Lane::kForward, slot, source);
  Impl::LaneState& state = d.lane_state(Lane::kForward);
  state.source = source;
  state.plan = &d.stash.Begin(slot);
  std::fill(state.plan->rows.begin(), state.plan->rows.end(), 0);
  if (source) {
    std::copy_n(source->plan.rows_of_expert.begin() + d.placement.first_of(d.rank), d.num_experts,
                state.plan->rows.begin() + d.rank * d.num_experts);
  }
  if (d.alone()) {
    BuildOwnerPlan(*state.plan);
  } else {
    d.SendCounts(slot, state);
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
  state.source = source;
  state.returned = returned;
  if (source) CHECK_EQ(returned.bytes(), source->plan.num_rows * d.row_bytes) << returned.ShapeString();
  if (lane == Lane::kBackward) {
    state.plan = &d.backward_plan;
    d.stash.FillRows(slot, *state.plan);
    BuildOwnerPlan(*state.plan);
  } else if (!d.alone()) {
    d.Wait(state.ticket);
    BuildOwnerPlan(*state.plan);
  }
  if (!d.alone()) d.SendToOwners(lane, slot, state);
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
  d.Wait(state.ticket);
  d.GatherToExperts(state, lane == Lane::kForward ? batch.x : batch.dy);
  return batch;
}

Tensor TokenDispatcher::KeepRows(SlotId slot) {
  return impl_->stash.Kept(slot);
}

Tensor TokenDispatcher::CombineRows(Lane lane) {
  Impl& d = *impl_;
  Impl::LaneState& state = d.lane_state(lane);
  CHECK(state.phase == Phase::kExperts);
  return d.alone() ? state.returned : d.Rows(d.combined, state.plan->num_rows);
}

void TokenDispatcher::StartCombine(Lane lane, SlotId slot) {
  Impl& d = *impl_;
  d.Begin(lane, slot, Phase::kExperts, Phase::kCombine);
  if (d.alone()) return;
  d.ScatterToSources(d.lane_state(lane));
  d.SendToSources(lane, slot, d.lane_state(lane));
}

void TokenDispatcher::WaitCombine(Lane lane) {
  Impl& d = *impl_;
  Impl::LaneState& state = d.lane_state(lane);
  CHECK(state.phase == Phase::kCombine) << static_cast<int>(state.phase);
  if (!d.alone()) d.Wait(state.ticket);
  state.phase = Phase::kIdle;
}

}  // namespace unipool
