// Moves routed rows to the ranks that own their experts and back (DESIGN section 6). It knows rows of D
// numbers in send order, experts and ranks, and nothing of tokens, weights or layers. Each row crosses once
// each way, without padding; rows for the own experts never leave the rank.
//
//   source rank                                     owner rank
//   StartCounts  (forward only)  -> rows per expert
//   fill SendRows                                   (counts arrive)
//   StartDispatch                -> rows            WaitDispatch -> expert-major batch of all sources
//                                                   experts fill AnswerRows
//   WaitCombine                  <- rows            StartCombine
//
// Both lanes may be under way at once; calls of all ranks of the pool group come in the same order. A rank
// without a microbatch in a lane passes source = nullptr: it sends nothing and still serves its experts. The
// backward lane needs no counts: the owner remembers the rows of each forward slot until the backward slots
// that return their gradients (row_stash.h).
//
// On one rank nothing is copied: send rows, expert batches and returned rows are the same memory.
//
// On a device rows are the device's memory, and waiting for them means that the stream does (the host only
// where rows are staged through its memory); plans and counts are the host's, and StartDispatch of the
// forward lane waits for the counts of the others.
#pragma once

#include <memory>
#include <vector>

#include "parallel/dispatch_plan.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/stream.h"

namespace unipool {

// The handle of one (microbatch, layer) on its source rank: made by routing, used in both directions of both
// lanes.
struct DispatchHandle {
  SendPlan plan;
};

// What the experts of this rank work on in one slot and lane.
struct OwnerBatch {
  std::span<const int64_t> expert_offsets;  // [E + 1]
  Tensor x;                                 // [R, D] what the experts received in the forward; in both lanes
  Tensor dy;                                // [R, D] backward lane only: gradient of the experts' outputs
  Tensor kept;  // [R, kept_columns] backward lane only: what KeepRows stored in the forward, in this batch's
                // order
  int64_t num_rows() const { return expert_offsets.back(); }
};

struct DispatcherOptions {
  int64_t row_size = 0;  // D
  DType dtype = DType::kF32;
  int64_t max_rows = 0;      // N at most, on any rank: T * K
  int64_t kept_columns = 0;  // width of what experts keep from forward to backward per row; 0: nothing
};

class TokenDispatcher {
 public:
  // `mesh`, `placement`, `schedule`, `stream` and `memory` must outlive it. Reserves address space for the
  // worst case (every row of every rank comes here); memory is counted as it is used.
  TokenDispatcher(const Mesh& mesh, const ExpertPlacement& placement, const SlotSchedule& schedule,
                  const DispatcherOptions& options, Stream& stream, MemoryMeter& memory);
  ~TokenDispatcher();
  // Begins another pass, possibly over another schedule (evaluation): forgets all received rows and allocates
  // nothing unless the schedule is deeper than all before. REQUIRES: no slot is under way.
  void SetSchedule(const SlotSchedule& schedule);
  void set_step(int64_t step);  // for labels only

  // A handle passed as `source` stays as it is until WaitCombine of that lane; nullptr exactly when the
  // schedule has no work for this rank in the lane and slot. Slots in which no rank has work in a lane
  // (AnyWork) are left out by all.

  // ---- source side
  void StartCounts(SlotId slot, const DispatchHandle* source);
  // [N, D]: where the source writes its rows in send order. Valid from StartCounts (forward) or at any time
  // the lane is not under way (backward) until WaitDispatch.
  Tensor SendRows(Lane lane, SlotId slot, const DispatchHandle& source);
  // Sends them. `returned` [N, D] is where the lane's combine will put what the experts gave for these rows
  // (memory that stays until WaitCombine; empty for a rank without source).
  void StartDispatch(Lane lane, SlotId slot, const DispatchHandle* source, const Tensor& returned);
  void WaitCombine(Lane lane);  // after it, `returned` is filled

  // ---- owner side
  // The batch stays as it is until the lane's rows of the next slot are written or sent; on one rank, whose
  // rows are not copied, also no longer than until the forward lane's SendRows of the next slot.
  OwnerBatch WaitDispatch(Lane lane, SlotId slot);
  // Forward lane: where the experts write what they want back in the backward lane, [R, kept_columns]; empty
  // when nothing is kept or the schedule is forward only.
  Tensor KeepRows(SlotId slot);
  // [R, D]: where the experts write their outputs, expert-major. The two lanes use the same memory one after
  // the other: a lane's StartCombine comes before the other's WaitDispatch.
  Tensor AnswerRows(Lane lane);
  void StartCombine(Lane lane, SlotId slot);

  // Bytes of counts and rows that this rank has sent to others since the start.
  int64_t bytes_sent() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace unipool
