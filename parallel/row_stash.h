// What the experts of this rank received, from the forward slot that brought it to the backward slots that
// return its gradients. A forward slot joins the rows of several stages, and each stage's gradients come back
// in a time step of their own: 2 (S - s) - 1 after the forward. So a backward slot joins rows of up to S
// forward slots, and an entry of the stash is free again after the backward of the lowest stage that sent
// rows for it: at most (2S - 1) * n + 1 entries are alive at once (n slots per time step), one when forward
// only.
#pragma once

#include <vector>

#include "kernels/copy_segments.h"
#include "parallel/dispatch_plan.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/buffer.h"

namespace unipool {

struct RowStashOptions {
  int64_t row_size = 0;      // D, columns of x
  int64_t kept_columns = 0;  // columns of what experts keep per row; 0: nothing
  DType dtype = DType::kF32;
  int64_t max_rows = 0;  // from all sources together in one slot
};

class RowStash {
 public:
  // `mesh`, `stream` and `memory` must outlive it. Memory is reserved for the worst case and counted as it is
  // used.
  RowStash(const Mesh& mesh, int num_local_experts, const RowStashOptions& options, Stream& stream,
           MemoryMeter& memory);
  // Forgets all rows. Takes more address space only for a schedule that is deeper than all before.
  void SetSchedule(const SlotSchedule& schedule);

  // ---- forward lane
  // Takes an entry that no slot from this one on needs. The caller fills
  // plan.rows and builds the plan. Slots come in the order of the schedule.
  OwnerPlan& Begin(SlotId forward_slot);
  Tensor X(SlotId forward_slot);  // [R, D] of its plan
  // [R, kept_columns]; empty when nothing is kept or the schedule is forward only.
  Tensor Kept(SlotId forward_slot);

  // ---- backward lane
  // Rows that each source sends in the slot: those of the forward slots that its stage's gradients belong to.
  void FillRows(SlotId backward_slot, OwnerPlan& plan);
  // x [R, D] and kept [R, kept_columns] in the order of `plan`, which is built of these rows. Where all of
  // them are the rows of one forward slot (always so when the pool group is one stage), the entry itself;
  // otherwise copies, which stay until the next call.
  struct Joined {
    Tensor x, kept;
  };
  Joined Join(SlotId backward_slot, const OwnerPlan& plan);

 private:
  struct Entry {
    OwnerPlan plan;
    Buffer x, kept;
    int64_t slot = -1;       // number of its forward slot
    int64_t last_slot = -1;  // number of the slot that is the last to need it; -1: free as yet
  };
  int64_t Number(SlotId slot) const { return int64_t{slot.time} * schedule_->slots_per_time() + slot.index; }
  int& EntryIndex(SlotId forward_slot);
  Entry& EntryOf(SlotId forward_slot);
  int64_t LastSlot(SlotId forward_slot) const;
  // The first entry that no slot from this one on needs. Always the first, so that no more entries ever hold
  // rows than are alive at once.
  int FreeEntry(int64_t slot) const;
  Entry& SourceEntry(SlotId backward_slot, int source);
  const Entry* OnlyEntry(SlotId backward_slot, const OwnerPlan& plan);
  Tensor Rows(Buffer& buffer, int64_t columns, int64_t rows) const;
  void JoinSegments(SlotId backward_slot, const OwnerPlan& plan, Buffer Entry::*part, int64_t columns,
                    const Tensor& to);

  const Mesh& mesh_;
  int num_local_experts_;
  RowStashOptions options_;
  Stream& stream_;
  MemoryMeter& memory_;
  const SlotSchedule* schedule_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<int> entry_of_;  // [2S, n], by forward time modulo 2S
  Buffer joined_x_, joined_kept_;
  std::vector<Segment> segments_;
};

}  // namespace unipool
