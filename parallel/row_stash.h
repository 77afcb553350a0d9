// Remembers what the experts of this rank received, from the forward slot that brought the rows to the
// backward slots that bring their gradients. An owner needs the rows x again there, to compute the gradients
// of its weights.
//
// A forward slot joins the rows of several stages, but each stage's gradients come back in a time step of its
// own. Stage s of S gets them 2 (S - s) - 1 time steps after the forward. So the rows of one forward slot
// are asked for in up to S backward slots, and a backward slot joins rows of up to S forward slots.
//
//   Example: S = 2, one layer per stage, so n = 1 slot per time step. In time step 2 stage 0 sends rows of
//   its microbatch 2, and stage 1 sends rows of microbatch 1. Stage 1's gradients come back in time step 3,
//   and stage 0's in time step 5. The entry of time step 2 is free again after time step 5.
//
// So an entry lives until the backward of the lowest stage that sent rows for it. At most (2 S - 1) n + 1
// entries are alive at once, and one when the schedule is forward only. parallel/DISPATCH.md, "The stash".
#pragma once

#include <vector>

#include "kernels/copy_segments.h"
#include "parallel/dispatch_plan.h"
#include "parallel/slot_schedule.h"
#include "runtime/buffer.h"

namespace unipool {

struct RowStashOptions {
  std::vector<int> stage_of_source;  // [W] the stage of each rank of the pool group
  int num_experts = 0;               // E, of this rank
  int64_t row_size = 0;              // D, columns of x
  int64_t kept_columns = 0;          // columns of what experts keep per row; 0: nothing
  DType dtype = DType::kF32;
  int64_t max_rows = 0;  // R at most: from all sources together in one slot
};

class RowStash {
 public:
  // `stream` and `memory` must outlive it. Address space is reserved for the worst case, and memory is
  // counted as it is used.
  RowStash(const RowStashOptions& options, Stream& stream, MemoryMeter& memory);
  // Forgets all rows. Takes more address space only for a schedule that is deeper than all before. `schedule`
  // stays until the next SetSchedule.
  void SetSchedule(const SlotSchedule& schedule);
  // Takes memory for so many rows of a slot in each lane, where rows have been before.
  void MakeRoom(int64_t forward_rows, int64_t backward_rows);

  // ---- forward lane
  // Takes an entry that no slot from this one on needs. The caller fills plan.rows and builds the plan. Slots
  // come in the order of the schedule.
  OwnerPlan& Begin(SlotId forward_slot);
  Tensor X(SlotId forward_slot);  // [R, D] of its plan
  // [R, kept_columns]; empty when nothing is kept or the schedule is forward only.
  Tensor Kept(SlotId forward_slot);
  // Number of the entry that holds the slot's rows, from 0.
  int EntryOfSlot(SlotId forward_slot) { return static_cast<int>(&EntryOf(forward_slot) - entries_.data()); }

  // ---- backward lane
  // Fills plan.rows with the rows that each source sends in the slot. They are the rows that the source sent
  // in the forward slot whose gradients its stage sends now.
  void FillRows(SlotId backward_slot, OwnerPlan& plan);
  // x [R, D] and kept [R, kept_columns] in the order of `plan`, which was built after FillRows. Where they
  // are exactly all rows of one forward slot, they are the entry itself. That is always so when the pool
  // group is one stage. Otherwise they are copies, which stay until the next call.
  struct Joined {
    Tensor x, kept;
  };
  Joined Join(SlotId backward_slot, const OwnerPlan& plan);
  bool IsCopied(SlotId backward_slot, const OwnerPlan& plan) { return !OnlyEntry(backward_slot, plan); }

 private:
  struct Entry {
    OwnerPlan plan;
    Buffer x, kept;
    int64_t slot = -1;       // number of its forward slot
    int64_t last_slot = -1;  // number of the last slot that needs it; -1: free as yet
  };
  int64_t Number(SlotId slot) const { return int64_t{slot.time} * schedule_->slots_per_time() + slot.index; }
  int num_sources() const { return static_cast<int>(options_.stage_of_source.size()); }
  int& EntryIndex(SlotId forward_slot);
  Entry& EntryOf(SlotId forward_slot);
  int64_t LastSlot(SlotId forward_slot) const;
  // The first entry that no slot from this one on needs. Always the first, so that no more entries ever hold
  // rows than are alive at once.
  int FreeEntry(int64_t slot) const;
  Entry& SourceEntry(SlotId backward_slot, int source);
  const Entry* OnlyEntry(SlotId backward_slot, const OwnerPlan& plan);
  Buffer Reserve(int64_t columns) const;
  Tensor Rows(Buffer& buffer, int64_t columns, int64_t rows) const;
  void JoinSegments(SlotId backward_slot, const OwnerPlan& plan, Buffer Entry::*part, int64_t columns,
                    const Tensor& to);

  const RowStashOptions options_;
  Stream& stream_;
  MemoryMeter& memory_;
  const SlotSchedule* schedule_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<int> entry_of_;  // [2 S, n], by forward time modulo 2 S
  Buffer joined_x_, joined_kept_;
  std::vector<Segment> segments_;
};

}  // namespace unipool
