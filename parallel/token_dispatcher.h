// Moves routed rows to the ranks that own their experts and back (DESIGN section 6). It knows rows of D
// numbers in send order, experts and ranks, and nothing of tokens, weights or layers. Each row crosses once
// each way, without padding.
//
//   source rank                                        owner rank
//   StartCounts  (forward only)  -> rows per expert
//   fill SendRows                                      (counts arrive)
//   StartDispatch                -> rows               WaitDispatch  -> expert-major batch, all sources
//   joined
//                                                      experts fill CombineRows
//   WaitCombine                  <- rows               StartCombine
//
// Both lanes may be under way at once; calls of all ranks of the pool group come in the same order. A rank
// without a microbatch in a lane passes source = nullptr: it sends nothing and still serves its experts. The
// backward lane needs no counts: the owner remembers the rows of each forward slot until the backward slot
// that returns their gradients, which differs by the source's stage (the schedule knows).
//
// On one rank nothing is copied: send rows, expert batches and returned rows are the same memory.
#pragma once

#include <memory>
#include <vector>

#include "parallel/dispatch_plan.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/stream.h"

namespace unipool {

// The handle of one (microbatch, layer) on its source rank: made by routing, used by both directions of both
// lanes.
struct DispatchHandle {
  SendPlan plan;
};

// What the experts of this rank work on in one slot and lane.
struct OwnerBatch {
  std::span<const int64_t> expert_offsets;  // [E + 1]
  Tensor x;     // [R, D] what the experts received in the forward; also given in the backward lane
  Tensor dy;    // [R, D] backward lane only: gradient of the experts' outputs
  Tensor kept;  // [R, kept_columns] what KeepRows stored in the forward, in this batch's order; backward lane
                // only
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
  // worst case. Call SetSchedule when the number of microbatches changes (evaluation); no slot may be under
  // way.
  TokenDispatcher(const Mesh& mesh, const ExpertPlacement& placement, const SlotSchedule& schedule,
                  const DispatcherOptions& options, Stream& stream, MemoryMeter& memory);
  ~TokenDispatcher();
  void SetSchedule(const SlotSchedule& schedule);
  void set_step(int64_t step) { step_ = step; }  // for labels only

  // ---- source side
  void StartCounts(SlotId slot, const DispatchHandle* source);
  // [N, D]: where the source writes its rows in send order. Valid from StartCounts (forward) or at any time
  // the lane is not under way (backward) until WaitDispatch.
  Tensor SendRows(Lane lane, SlotId slot, const DispatchHandle& source);
  // Sends them. `returned` [N, D] is where the lane's combine will put what the experts gave for these rows
  // (memory that stays until WaitCombine).
  void StartDispatch(Lane lane, SlotId slot, const DispatchHandle* source, const Tensor& returned);
  void WaitCombine(Lane lane);  // after it, `returned` is filled

  // ---- owner side
  OwnerBatch WaitDispatch(Lane lane, SlotId slot);
  // Forward lane: where the experts write what they want back in the backward lane, [R, kept_columns].
  Tensor KeepRows(SlotId slot);
  Tensor CombineRows(Lane lane);  // [R, D]: where the experts write their outputs, expert-major
  void StartCombine(Lane lane, SlotId slot);

  // Rows received so far this step per (forward slot), for reports; bytes that crossed to other ranks since
  // the start.
  int64_t bytes_sent() const { return bytes_sent_; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  int64_t step_ = -1, bytes_sent_ = 0;
};

}  // namespace unipool
