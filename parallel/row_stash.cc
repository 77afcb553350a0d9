#include "parallel/row_stash.h"

#include <algorithm>

#include "runtime/errors.h"

namespace unipool {

RowStash::RowStash(const RowStashOptions& options, Stream& stream, MemoryMeter& memory)
    : options_(options), stream_(stream), memory_(memory) {
  segments_.reserve(static_cast<size_t>(num_sources()) * options_.num_experts);
  joined_x_ = Reserve(options_.row_size);
  joined_kept_ = Reserve(options_.kept_columns);
}

Buffer RowStash::Reserve(int64_t columns) const {
  return Buffer::Reserve(memory_, MemoryKind::kActivations,
                         options_.max_rows * columns * SizeOf(options_.dtype));
}

void RowStash::SetSchedule(const SlotSchedule& schedule) {
  schedule_ = &schedule;
  const size_t depth = 2 * schedule.num_stages();
  const size_t slots = schedule.slots_per_time();
  const size_t needed = schedule.forward_only() ? 1 : (depth - 1) * slots + 1;
  while (entries_.size() < needed) {
    Entry& entry = entries_.emplace_back();
    entry.plan = OwnerPlan(num_sources(), options_.num_experts);
    entry.x = Reserve(options_.row_size);
    entry.kept = Reserve(options_.kept_columns);
  }
  entry_of_.assign(depth * slots, -1);
  for (Entry& entry : entries_) entry.last_slot = -1;
}

void RowStash::MakeRoom(int64_t forward_rows, int64_t backward_rows) {
  const int64_t item = SizeOf(options_.dtype);
  for (Entry& entry : entries_) {
    entry.x.TakeAhead(forward_rows * options_.row_size * item);
    entry.kept.TakeAhead(forward_rows * options_.kept_columns * item);
  }
  joined_x_.TakeAhead(backward_rows * options_.row_size * item);
  joined_kept_.TakeAhead(backward_rows * options_.kept_columns * item);
}

int& RowStash::EntryIndex(SlotId forward_slot) {
  const int depth = 2 * schedule_->num_stages();
  return entry_of_[forward_slot.time % depth * schedule_->slots_per_time() + forward_slot.index];
}

RowStash::Entry& RowStash::EntryOf(SlotId forward_slot) {
  const int i = EntryIndex(forward_slot);
  CHECK(i >= 0 && entries_[i].last_slot >= 0 && entries_[i].slot == Number(forward_slot))
      << "the rows of time " << forward_slot.time << ", slot " << forward_slot.index << " are gone";
  return entries_[i];
}

int64_t RowStash::LastSlot(SlotId forward_slot) const {
  if (schedule_->forward_only()) return Number(forward_slot);
  int64_t last = Number(forward_slot);
  for (int source = 0; source < num_sources(); ++source) {
    const int stage = options_.stage_of_source[source];
    const LaneWork work = schedule_->Work(Lane::kForward, stage, forward_slot);
    if (!work.idle()) last = std::max(last, Number(schedule_->SlotOf(Lane::kBackward, stage, work)));
  }
  return last;
}

int RowStash::FreeEntry(int64_t slot) const {
  const auto is_free = [&](const Entry& entry) { return entry.last_slot < slot; };
  return static_cast<int>(std::find_if(entries_.begin(), entries_.end(), is_free) - entries_.begin());
}

OwnerPlan& RowStash::Begin(SlotId forward_slot) {
  const int i = FreeEntry(Number(forward_slot));
  CHECK_LT(i, static_cast<int>(entries_.size()))
      << "time " << forward_slot.time << ", slot " << forward_slot.index << ": all entries are in use";
  EntryIndex(forward_slot) = i;
  entries_[i].slot = Number(forward_slot);
  entries_[i].last_slot = LastSlot(forward_slot);
  return entries_[i].plan;
}

Tensor RowStash::Rows(Buffer& buffer, int64_t columns, int64_t rows) const {
  buffer.Use(rows * columns * SizeOf(options_.dtype));
  return buffer.View(options_.dtype, {rows, columns});
}

Tensor RowStash::X(SlotId forward_slot) {
  Entry& entry = EntryOf(forward_slot);
  return Rows(entry.x, options_.row_size, entry.plan.num_rows);
}

Tensor RowStash::Kept(SlotId forward_slot) {
  if (options_.kept_columns == 0 || schedule_->forward_only()) return {};
  Entry& entry = EntryOf(forward_slot);
  return Rows(entry.kept, options_.kept_columns, entry.plan.num_rows);
}

RowStash::Entry& RowStash::SourceEntry(SlotId backward_slot, int source) {
  const int stage = options_.stage_of_source[source];
  const LaneWork work = schedule_->Work(Lane::kBackward, stage, backward_slot);
  Entry& entry = EntryOf(schedule_->SlotOf(Lane::kForward, stage, work));
  CHECK_GE(entry.last_slot, Number(backward_slot))
      << "rows of slot " << entry.slot << " are asked for too late";
  return entry;
}

void RowStash::FillRows(SlotId backward_slot, OwnerPlan& plan) {
  std::fill(plan.rows.begin(), plan.rows.end(), 0);
  for (int source = 0; source < plan.num_ranks; ++source) {
    if (schedule_->Work(Lane::kBackward, options_.stage_of_source[source], backward_slot).idle()) continue;
    const Entry& entry = SourceEntry(backward_slot, source);
    const int first = source * plan.num_experts;
    std::copy_n(entry.plan.rows.begin() + first, plan.num_experts, plan.rows.begin() + first);
  }
}

const RowStash::Entry* RowStash::OnlyEntry(SlotId backward_slot, const OwnerPlan& plan) {
  const Entry* only = nullptr;
  for (int source = 0; source < plan.num_ranks; ++source) {
    if (plan.source_offsets[source] == plan.source_offsets[source + 1]) continue;
    const Entry* entry = &SourceEntry(backward_slot, source);
    if (only && entry != only) return nullptr;
    only = entry;
  }
  return only && only->plan.num_rows == plan.num_rows ? only : nullptr;
}

void RowStash::JoinSegments(SlotId backward_slot, const OwnerPlan& plan, Buffer Entry::*part, int64_t columns,
                            const Tensor& to) {
  const int64_t row_bytes = columns * SizeOf(options_.dtype);
  segments_.clear();
  for (int source = 0; source < plan.num_ranks; ++source) {
    if (plan.source_offsets[source] == plan.source_offsets[source + 1]) continue;
    const Entry& entry = SourceEntry(backward_slot, source);
    const char* from = static_cast<const char*>((entry.*part).data());
    for (int i = source * plan.num_experts; i < (source + 1) * plan.num_experts; ++i) {
      if (plan.rows[i] == 0) continue;
      segments_.push_back({from + entry.plan.first_expert_row[i] * row_bytes,
                           static_cast<char*>(to.data) + plan.first_expert_row[i] * row_bytes,
                           plan.rows[i] * row_bytes});
    }
  }
  CopySegments(stream_, segments_);
}

RowStash::Joined RowStash::Join(SlotId backward_slot, const OwnerPlan& plan) {
  const int64_t kept_columns = options_.kept_columns;
  if (const Entry* only = OnlyEntry(backward_slot, plan)) {
    Joined joined{.x = only->x.View(options_.dtype, {plan.num_rows, options_.row_size}), .kept = {}};
    if (kept_columns > 0) joined.kept = only->kept.View(options_.dtype, {plan.num_rows, kept_columns});
    return joined;
  }
  Joined joined{.x = Rows(joined_x_, options_.row_size, plan.num_rows), .kept = {}};
  JoinSegments(backward_slot, plan, &Entry::x, options_.row_size, joined.x);
  if (kept_columns > 0) {
    joined.kept = Rows(joined_kept_, kept_columns, plan.num_rows);
    JoinSegments(backward_slot, plan, &Entry::kept, kept_columns, joined.kept);
  }
  return joined;
}

}  // namespace unipool
