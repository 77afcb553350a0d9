// Moves routed rows to the ranks that own their experts and back. It knows rows of D numbers in send order,
// experts and ranks, and nothing of tokens, weights or layers. Each row crosses the wire at most once each
// way, without padding. Rows for the rank's own experts never leave the rank.
// A row's way with an example: parallel/DISPATCH.md, "A row there and back". Letters: README.md.
//
//   source rank                                     owner rank
//   StartCounts  (forward only)  -> rows per expert
//   fill SendRows                                   (counts arrive)
//   StartDispatch                -> rows            WaitDispatch -> expert-major batch of all sources
//                                                   experts fill AnswerRows
//   WaitCombine                  <- rows            StartCombine
//
// Both lanes may be under way at once. Calls of all ranks of the pool group come in the same order. A rank
// without a microbatch in a lane passes source = nullptr: it sends nothing and still serves its experts. The
// backward lane needs no counts, because the owner remembers the rows of each forward slot (row_stash.h).
//
// On one rank nothing is copied: send rows, expert batches and returned rows are the same memory.
//
// A lane that is alone in a slot (the pipeline fills or drains, or it is an evaluation) has no other lane's
// work to cover its wire. There its batch goes there and back in pieces, each the rows of a run of every
// owner's experts. The rows of the next piece and the answers of the last travel while the experts work.
//
// On a device the rows are in the device's memory, and the stream waits for them. (The host waits only where
// rows are staged through its memory.) Plans and counts are in the host's memory, so StartDispatch of the
// forward lane waits on the host for the counts of the other ranks.
#pragma once

#include <vector>

#include "parallel/held_rows.h"
#include "parallel/row_segments.h"
#include "parallel/row_stash.h"
#include "parallel/row_wire.h"
#include "parallel/work_times.h"

namespace unipool {

// The handle of one (microbatch, layer) on its source rank: made by routing, used in both directions of both
// lanes.
struct DispatchHandle {
  SendPlan plan;
};

// What the experts of this rank work on in one slot and lane.
// How many of these experts have rows.
int NumUsedExperts(std::span<const int64_t> expert_offsets /*[E + 1]*/, Range experts);

struct OwnerBatch {
  std::span<const int64_t> expert_offsets;  // [E + 1]
  Range experts;                            // of the rank's E: those whose rows have just come; one piece
  Tensor x;                                 // [R, D] what the experts received in the forward; in both lanes
  Tensor dy;                                // [R, D] backward lane only: gradient of the experts' outputs
  // [R, kept_columns] backward lane only: what KeepRows stored in the forward, in this batch's order.
  Tensor kept;
  int64_t num_rows() const { return expert_offsets.back(); }
  // Of the piece: rows [begin, end) of the batch.
  Range piece_rows() const { return {expert_offsets[experts.begin], expert_offsets[experts.end]}; }
  int64_t num_experts() const { return static_cast<int64_t>(expert_offsets.size()) - 1; }
  // Experts that have rows: of the piece, or of all E.
  int NumUsedInPiece() const { return NumUsedExperts(expert_offsets, experts); }
  int NumUsed() const { return NumUsedExperts(expert_offsets, {0, num_experts()}); }
};

// Of this rank's experts in the forward lane's batches that had rows.
struct UsedExperts {
  double shares = 0;  // sum over batches of the experts with rows / E
  double batches = 0;
};

struct DispatcherOptions {
  int64_t row_size = 0;  // D
  DType dtype = DType::kF32;
  int64_t max_rows = 0;      // N at most, on any rank: T * K
  int64_t kept_columns = 0;  // width of what experts keep from forward to backward per row; 0: nothing
  // Pieces of a lane that is alone in a slot, at most. 1: it goes whole, as lanes do that are not alone.
  int pieces_alone = 1;
  int bank_slots = 1;  // HeldRowsMeter
};

class TokenDispatcher {
 public:
  // `mesh`, `placement`, `schedule`, `stream` and `memory` must outlive it. `placement` may change between
  // steps, if every rank keeps its number of experts and of shadows (expert_placement.h). "Experts" of a rank
  // are its places here, E with the shadows. Reserves address space for the worst case, in which every row of
  // every rank comes here; memory is counted as it is used.
  TokenDispatcher(const Mesh& mesh, const ExpertPlacement& placement, const SlotSchedule& schedule,
                  const DispatcherOptions& options, Stream& stream, MemoryMeter& memory);
  // Begins another pass, possibly over another schedule (evaluation). Forgets all received rows. Allocates
  // nothing unless the schedule is deeper than all before. REQUIRES: no slot is under way.
  void SetSchedule(const SlotSchedule& schedule);
  void set_step(int64_t step) { step_ = step; }  // for labels only
  // Between steps, when other experts have come: takes memory for so many rows of a slot in each lane, so
  // that no slot stops to take it. Only where rows have been before, and cut to the worst case.
  void MakeRoom(int64_t forward_rows, int64_t backward_rows);
  // Who hears of the copies of received rows and of answers (WorkKind::kRows) from now on; null: nobody. It
  // outlives its use.
  void set_meter(WorkMeter* meter) { told_.meter = meter; }

  // A handle passed as `source` stays as it is until WaitCombine of that lane. It is null exactly when the
  // schedule has no work for this rank in the lane and slot. Slots in which no rank has work in a lane
  // (SlotSchedule::AnyWork) are left out by all ranks.

  // ---- source side
  void StartCounts(SlotId slot, const DispatchHandle* source);
  // [N, D]: where the source writes its rows in send order. Valid until WaitDispatch of the last piece. It
  // may be asked for from StartCounts on (forward lane), or at any time at which the lane is not under way
  // (backward lane).
  Tensor SendRows(Lane lane, SlotId slot, const DispatchHandle& source);
  // Sends them. `returned` [N, D] is where the lane's combine puts the experts' answers for these rows. This
  // memory stays until WaitCombine. It is empty for a rank without source.
  void StartDispatch(Lane lane, SlotId slot, const DispatchHandle* source, const Tensor& returned);
  void WaitCombine(Lane lane);  // after it, `returned` is filled

  // ---- owner side
  // In how many pieces the lane's batch comes in the slot: the same on all ranks.
  int NumPieces(Lane lane, SlotId slot) const;
  // The batch of the lane's slot, in which the rows of the pieces 0 .. `piece` have come. Pieces are waited
  // for in order, each after StartCombine of the one before. On several ranks the batch stays as it is until
  // the lane's rows of the next slot are written or sent. On one rank, whose rows are not copied, it stays
  // until then or until SendRows of the forward lane's next slot, whichever comes first.
  OwnerBatch WaitDispatch(Lane lane, SlotId slot, int piece);
  // Forward lane: where the experts write what they want back in the backward lane, [R, kept_columns]. Empty
  // when nothing is kept or the schedule is forward only.
  Tensor KeepRows(SlotId slot) { return stash_.Kept(slot); }
  // [R, D]: where the experts write their answers, expert-major. It is the same for all pieces. The two lanes
  // use the same memory one after the other: StartCombine of one lane comes before WaitDispatch of the other.
  Tensor AnswerRows(Lane lane);
  void StartCombine(Lane lane, SlotId slot, int piece);

  // Since the last call of ClearUsedExperts.
  const UsedExperts& used_experts() const { return told_.used; }
  void ClearUsedExperts() { told_.used = {}; }
  // Since the start.
  const HeldRows& held_rows() const { return told_.rows.most(); }

  // Bytes of counts and rows that this rank has sent to others since the start.
  int64_t bytes_sent() const { return wire_.bytes_sent(); }

 private:
  enum class Phase { kIdle, kCounts, kDispatch, kExperts, kCombine };
  // What is under way in a lane.
  struct LaneState {
    Phase phase = Phase::kIdle;
    const SendPlan* source = nullptr;
    Tensor returned;
    OwnerPlan* plan = nullptr;
    int num_pieces = 1, piece = 0;  // piece: the one that is waited for or answered next
    OwnerBatch batch;               // from piece 0 on
    RowWire::Ticket counts = 0;
    std::vector<RowWire::Ticket> tickets;  // [num_pieces] of a piece's dispatch, then of its combine
    Buffer send;  // this rank's rows in send order; on one rank in the backward lane the experts' dy
    Buffer wire;  // rows of the other ranks, source-major: first what came, then what goes back
  };

  LaneState& lane_state(Lane lane) { return lanes_[static_cast<int>(lane)]; }
  int rank() const { return mesh_.pool().rank(); }
  bool alone() const { return mesh_.pool().size() == 1; }
  // The lane goes from one phase to the next; any other order of calls is a bug.
  void Begin(Lane lane, SlotId slot, Phase from, Phase to);
  void BuildForwardPlan(OwnerPlan& plan);
  void CheckSource(Lane lane, SlotId slot, const DispatchHandle* source) const;
  Tensor Rows(Buffer& buffer, int64_t rows) const;  // [rows, D]
  std::span<char* const> SourceRows(LaneState& state, void* own);
  ExchangeLabel Label(const char* operation, Lane lane, SlotId slot) const;
  // Of the rows of a piece those of the rank's own experts, which stay here.
  int64_t KeptBytes(const LaneState& state, int piece) const;
  OwnerBatch BatchOf(Lane lane, SlotId slot);
  void CountRows(Lane lane, SlotId slot, bool is_joined);

  const Mesh& mesh_;
  const ExpertPlacement& placement_;
  const DispatcherOptions options_;
  const int64_t row_bytes_;
  const int pieces_alone_;
  const SlotSchedule* schedule_ = nullptr;
  int64_t step_ = -1;
  struct Told {
    WorkMeter* meter = nullptr;
    UsedExperts used;
    HeldRowsMeter rows;
  };
  Told told_;  // of the work that comes here
  RowStash stash_;
  RowWire wire_;
  RowSegments segments_;
  OwnerPlan backward_plan_;
  LaneState lanes_[2];
  Buffer dy_;                       // [R, D] of the backward batch
  Buffer answers_;                  // [R, D] of the lane that the experts work for
  std::vector<char*> source_rows_;  // [W], of one copy
};

}  // namespace unipool
