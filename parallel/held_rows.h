// How many rows of experts the arrays of a rank must have room for, each array at the moment when it needs
// most. What a plan of memory takes from a guess (models/memory_plan.h) a run counts here, from the rows that
// come. Each number is the most of all passes so far, and none falls.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/slot_schedule.h"

namespace unipool {

struct HeldRows {
  int64_t stashed = 0;         // sum over the entries of the stash of the most that each has held
  int64_t kept = 0;            // the same of training alone, for the backward
  int64_t joined = 0;          // of a backward slot that has rows of several forward slots
  int64_t batch = 0;           // that came in a slot and lane
  int64_t backward = 0;        // of these, in the backward lane
  int64_t forward_wire = 0;    // from other ranks, in a slot of the forward lane
  int64_t backward_wire = 0;   // and of the backward lane
  int64_t forward_piece = 0;   // that the experts work on at once
  int64_t backward_piece = 0;  // and in the backward lane
  int64_t unkept_piece = 0;    // of these, whose gate and up are not kept: validation, recomputation
  int64_t banked = 0;          // sum over the banks of weight gradients of the most that each has held

  static constexpr int kNumNumbers = 11;
  // All, in the order above, and their names.
  std::array<int64_t*, kNumNumbers> numbers();
  std::array<int64_t, kNumNumbers> values() const;
  static const std::array<const char*, kNumNumbers>& Names();
  bool operator==(const HeldRows&) const = default;
};

// Counts them on one rank.
class HeldRowsMeter {
 public:
  // keeps_rows: experts keep what they computed for the backward. bank_slots: backward slots whose weight
  // gradients are added up at once (models/weight_grad_banks.h); 1: none is kept for it.
  HeldRowsMeter(bool keeps_rows, int bank_slots) : keeps_rows_(keeps_rows), bank_slots_(bank_slots) {}

  // Another pass over the slots begins.
  void BeginPass(bool forward_only);
  struct Batch {
    Lane lane = Lane::kForward;
    int64_t rows = 0, from_others = 0, largest_piece = 0;
    int entry = -1;          // of the stash, that takes the rows; forward lane only
    bool is_joined = false;  // backward lane only
  };
  // In the order of the slots. Allocates nothing once all entries have been seen.
  void Add(const Batch& batch);
  const HeldRows& most() const { return most_; }

 private:
  void AddToBank(int64_t rows);

  const bool keeps_rows_;
  const int bank_slots_;
  bool forward_only_ = false;
  HeldRows most_;
  std::vector<int64_t> entries_, kept_;  // by entry, the most rows of all passes and of training
  // Two banks take turns. Of the one that is filled: its slots and rows so far.
  std::array<int64_t, 2> banks_{};
  int filling_ = 0, bank_used_ = 0;
  int64_t bank_rows_ = 0;
};

}  // namespace unipool
