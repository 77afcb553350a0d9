#include "parallel/held_rows.h"

#include <algorithm>

namespace unipool {
namespace {

// Raises `most` to `value`, and `sum`, to which `most` belongs, by as much.
void Raise(int64_t& most, int64_t value, int64_t& sum) {
  if (value <= most) return;
  sum += value - most;
  most = value;
}

void Raise(int64_t& most, int64_t value) {
  most = std::max(most, value);
}

}  // namespace

std::array<int64_t*, HeldRows::kNumNumbers> HeldRows::numbers() {
  return {&stashed,       &kept,          &joined,         &batch,        &backward, &forward_wire,
          &backward_wire, &forward_piece, &backward_piece, &unkept_piece, &banked};
}

std::array<int64_t, HeldRows::kNumNumbers> HeldRows::values() const {
  HeldRows copy = *this;
  std::array<int64_t, kNumNumbers> values{};
  const auto numbers = copy.numbers();
  for (int i = 0; i < kNumNumbers; ++i) values[i] = *numbers[i];
  return values;
}

const std::array<const char*, HeldRows::kNumNumbers>& HeldRows::Names() {
  static constexpr std::array<const char*, kNumNumbers> kNames = {
      "stashed",       "kept",          "joined",         "batch",        "backward", "forward_wire",
      "backward_wire", "forward_piece", "backward_piece", "unkept_piece", "banked"};
  return kNames;
}

void HeldRowsMeter::BeginPass(bool forward_only) {
  forward_only_ = forward_only;
  bank_used_ = 0;
  bank_rows_ = 0;
}

void HeldRowsMeter::Add(const Batch& batch) {
  Raise(most_.batch, batch.rows);
  if (batch.lane == Lane::kForward) {
    if (batch.entry >= static_cast<int>(entries_.size())) {
      entries_.resize(batch.entry + 1);
      kept_.resize(batch.entry + 1);
    }
    Raise(entries_[batch.entry], batch.rows, most_.stashed);
    if (!forward_only_) Raise(kept_[batch.entry], batch.rows, most_.kept);
    Raise(most_.forward_wire, batch.from_others);
    Raise(most_.forward_piece, batch.largest_piece);
    if (forward_only_ || !keeps_rows_) Raise(most_.unkept_piece, batch.largest_piece);
    return;
  }
  Raise(most_.backward, batch.rows);
  Raise(most_.backward_wire, batch.from_others);
  Raise(most_.backward_piece, batch.largest_piece);
  if (!keeps_rows_) Raise(most_.unkept_piece, batch.largest_piece);
  if (batch.is_joined) Raise(most_.joined, batch.rows);
  if (bank_slots_ > 1) AddToBank(batch.rows);
}

void HeldRowsMeter::AddToBank(int64_t rows) {
  if (bank_used_ == bank_slots_) {
    filling_ = 1 - filling_;
    bank_used_ = 0;
    bank_rows_ = 0;
  }
  ++bank_used_;
  bank_rows_ += rows;
  Raise(banks_[filling_], bank_rows_, most_.banked);
}

}  // namespace unipool
