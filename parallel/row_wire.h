// The exchanges of dispatch and combine: blocks between the ranks of a pool group and nothing else. Every
// rank starts the same exchanges in the same order. Nothing here blocks but WaitCounts and Wait.
//
// Rows are in the memory of the stream's device, and counts are in the host's memory. `wire` is memory for
// the rows of all other ranks, source-major: first they come there, and later their answers leave from there.
// The rank's own rows are never on the wire and have no room in it.
//   Example: 2 ranks. Rank 0 sends 3 rows, 1 of them to itself. Rank 1's wire memory has room for 2 rows.
#pragma once

#include <vector>

#include "parallel/dispatch_plan.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/range.h"
#include "runtime/stream.h"

namespace unipool {

// Piece `index` of `count` of an exchange of rows: those of part `index` of each owner's experts, in the even
// partition (range.h).
struct RowPiece {
  int index = 0, count = 1;
};

class RowWire {
 public:
  using Ticket = Communicator::Ticket;
  // All must outlive it.
  RowWire(const Mesh& mesh, const ExpertPlacement& placement, int64_t row_bytes, Stream& stream);

  // Rows per expert: fills plan.rows of the other ranks that have work in the slot. `source` is null on a
  // rank without work. Such a rank sends nothing, and the schedule tells all others so.
  Ticket StartCounts(const SlotSchedule& schedule, SlotId slot, const SendPlan* source, OwnerPlan& plan,
                     const ExchangeLabel& label);
  // Rows in send order leave for their owners, and rows of the other ranks arrive in wire memory.
  Ticket StartToOwners(const SendPlan* source, void* send_rows, const OwnerPlan& plan, void* wire,
                       RowPiece piece, const ExchangeLabel& label);
  // The way back: answers leave wire memory for their sources, and answers for this rank's own rows arrive in
  // `returned`, in send order.
  Ticket StartToSources(const SendPlan* source, void* returned, const OwnerPlan& plan, void* wire,
                        RowPiece piece, const ExchangeLabel& label);
  void WaitCounts(Ticket ticket);  // the host waits
  // From here on the stream may read what has arrived and write over what was sent.
  void Wait(Ticket ticket);

  int64_t NumRows(const OwnerPlan& plan) const;               // rows in wire memory
  int64_t FirstRow(const OwnerPlan& plan, int source) const;  // where another rank's rows begin there
  // Of the rows in send order those of the piece for an owner, and of a source's rows in source-major order
  // those of the piece, counted from the source's first.
  Range RowsTo(const SendPlan& plan, int owner, RowPiece piece) const;
  static Range RowsFrom(const OwnerPlan& plan, int source, RowPiece piece);
  int64_t bytes_sent() const { return bytes_sent_; }  // counts and rows to other ranks, since the start

 private:
  // The block of these rows of `data`.
  template <class Block>
  Block BlockOf(void* data, Range rows) const;
  Range WireRows(const OwnerPlan& plan, int other, RowPiece piece) const;  // in wire memory
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
  std::vector<SendBlock> send_;  // one per rank; the rank's own one stays empty
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
