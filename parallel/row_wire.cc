#include "parallel/row_wire.h"

#include <algorithm>
#include <numeric>

namespace unipool {

RowWire::RowWire(const Mesh& mesh, const ExpertPlacement& placement, int64_t row_bytes, Stream& stream)
    : pool_(mesh.pool()),
      host_pool_(mesh.host_pool()),
      mesh_(mesh),
      placement_(placement),
      row_bytes_(row_bytes),
      stream_(stream),
      send_(pool_.size()),
      recv_(pool_.size()) {}

int64_t RowWire::NumRows(const OwnerPlan& plan) const {
  return plan.num_rows - (plan.source_offsets[pool_.rank() + 1] - plan.source_offsets[pool_.rank()]);
}

int64_t RowWire::FirstRow(const OwnerPlan& plan, int source) const {
  const int64_t own_rows = plan.num_rows - NumRows(plan);
  return plan.source_offsets[source] - (source > pool_.rank() ? own_rows : 0);
}

Range RowWire::RowsTo(const SendPlan& plan, int owner, RowPiece piece) const {
  const Range experts = EvenPartition(placement_.num_local(owner), piece.count, piece.index);
  const auto rows = plan.rows_of_expert.begin() + placement_.first_of(owner);
  const int64_t begin = std::accumulate(rows, rows + experts.begin, plan.rank_offsets[owner]);
  return {begin, std::accumulate(rows + experts.begin, rows + experts.end, begin)};
}

Range RowWire::RowsFrom(const OwnerPlan& plan, int source, RowPiece piece) {
  const Range experts = EvenPartition(plan.num_experts, piece.count, piece.index);
  const auto rows = plan.rows.begin() + int64_t{source} * plan.num_experts;
  const int64_t begin = std::accumulate(rows, rows + experts.begin, int64_t{0});
  return {begin, std::accumulate(rows + experts.begin, rows + experts.end, begin)};
}

Range RowWire::WireRows(const OwnerPlan& plan, int other, RowPiece piece) const {
  const Range rows = RowsFrom(plan, other, piece);
  const int64_t first = FirstRow(plan, other);
  return {first + rows.begin, first + rows.end};
}

template <class Block>
Block RowWire::BlockOf(void* data, Range rows) const {
  return {.data = static_cast<char*>(data) + rows.begin * row_bytes_, .bytes = rows.size() * row_bytes_};
}

void RowWire::ClearBlocks() {
  std::fill(send_.begin(), send_.end(), SendBlock{});
  std::fill(recv_.begin(), recv_.end(), RecvBlock{});
}

RowWire::Ticket RowWire::Start(Communicator& communicator, const ExchangeLabel& label) {
  int64_t bytes = 0;
  for (const SendBlock& block : send_) bytes += block.bytes;
  bytes_sent_ += bytes;
  KernelScope scope(stream_, Op::kExchange, 0, static_cast<double>(bytes));
  return communicator.Start(send_, recv_, label);
}

void RowWire::Wait(Communicator& communicator, Ticket ticket) {
  KernelScope scope(stream_, Op::kExchange, 0, 0);
  communicator.Wait(ticket);
}

void RowWire::WaitCounts(Ticket ticket) {
  Wait(host_pool_, ticket);
}

void RowWire::Wait(Ticket ticket) {
  Wait(pool_, ticket);
}

RowWire::Ticket RowWire::StartCounts(const SlotSchedule& schedule, SlotId slot, const SendPlan* source,
                                     OwnerPlan& plan, const ExchangeLabel& label) {
  ClearBlocks();
  for (int other = 0; other < pool_.size(); ++other) {
    if (other == pool_.rank()) continue;
    if (source) {
      send_[other] = {.data = source->rows_of_expert.data() + placement_.first_of(other),
                      .bytes = static_cast<int64_t>(placement_.num_local(other) * sizeof(int32_t))};
    }
    if (!schedule.Work(Lane::kForward, mesh_.StageOfPoolRank(other), slot).idle()) {
      recv_[other] = {.data = plan.rows.data() + other * plan.num_experts,
                      .bytes = static_cast<int64_t>(plan.num_experts * sizeof(int32_t))};
    }
  }
  return Start(host_pool_, label);
}

RowWire::Ticket RowWire::StartToOwners(const SendPlan* source, void* send_rows, const OwnerPlan& plan,
                                       void* wire, RowPiece piece, const ExchangeLabel& label) {
  ClearBlocks();
  for (int other = 0; other < pool_.size(); ++other) {
    if (other == pool_.rank()) continue;
    if (source) send_[other] = BlockOf<SendBlock>(send_rows, RowsTo(*source, other, piece));
    recv_[other] = BlockOf<RecvBlock>(wire, WireRows(plan, other, piece));
  }
  return Start(pool_, label);
}

RowWire::Ticket RowWire::StartToSources(const SendPlan* source, void* returned, const OwnerPlan& plan,
                                        void* wire, RowPiece piece, const ExchangeLabel& label) {
  ClearBlocks();
  for (int other = 0; other < pool_.size(); ++other) {
    if (other == pool_.rank()) continue;
    send_[other] = BlockOf<SendBlock>(wire, WireRows(plan, other, piece));
    if (source) recv_[other] = BlockOf<RecvBlock>(returned, RowsTo(*source, other, piece));
  }
  return Start(pool_, label);
}

}  // namespace unipool
