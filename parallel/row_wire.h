// The exchanges of dispatch and combine: blocks between the ranks of a pool group and nothing else. Rows lie
// in memory of the stream's device, counts in the host's. "Wire
// memory" holds the rows of all other ranks, source-major, first as they come and then as their answers
// leave; the own rows are never on the wire and have no room there. Nothing here blocks but Wait; every rank
// starts the same exchanges in the same order.
#pragma once

#include <vector>

#include "parallel/dispatch_plan.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/stream.h"

namespace unipool {

class RowWire {
 public:
  using Ticket = Communicator::Ticket;
  // All must outlive it.
  RowWire(const Mesh& mesh, const ExpertPlacement& placement, int64_t row_bytes, Stream& stream);

  // Rows per expert: fills plan.rows of the other ranks that have work in the slot. `source` is null on a
  // rank without work, which sends nothing, as the schedule tells everyone.
  Ticket StartCounts(const SlotSchedule& schedule, SlotId slot, const SendPlan* source, OwnerPlan& plan,
                     const ExchangeLabel& label);
  // Rows in send order to their owners; those of the others arrive in wire memory.
  Ticket StartToOwners(const SendPlan* source, void* send_rows, const OwnerPlan& plan, void* wire,
                       const ExchangeLabel& label);
  // The way back: wire memory to the sources, and what the others answer into `returned`, in send order.
  Ticket StartToSources(const SendPlan* source, void* returned, const OwnerPlan& plan, void* wire,
                        const ExchangeLabel& label);
  void WaitCounts(Ticket ticket);  // the host waits
  // From here on the stream may read what has arrived and write over what was sent.
  void Wait(Ticket ticket);

  int64_t NumRows(const OwnerPlan& plan) const;               // on the wire
  int64_t FirstRow(const OwnerPlan& plan, int source) const;  // of another rank, in wire memory
  int64_t bytes_sent() const { return bytes_sent_; }  // to other ranks, counts and rows, since the start

 private:
  // The block of rows [offsets[other], offsets[other + 1]) that lies at `row` of `data`.
  template <class Block>
  Block BlockOf(const std::vector<int64_t>& offsets, int other, void* data, int64_t row) const;
  void ClearBlocks();
  Ticket Start(Communicator& communicator, const ExchangeLabel& label);
  void Wait(Communicator& communicator, Ticket ticket);

  Communicator& pool_;
  Communicator& host_pool_;
  const Mesh& mesh_;
  const ExpertPlacement& placement_;
  const int64_t row_bytes_;
  Stream& stream_;
  int64_t bytes_sent_ = 0;
  std::vector<SendBlock> send_;  // one per rank; the own ones stay empty
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
