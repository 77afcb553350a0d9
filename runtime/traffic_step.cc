#include "runtime/traffic_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/errors.h"

namespace unipool {
namespace {

// Slots in both lanes that a step looks at.
int64_t NumSeen(int world, int64_t num_slots) {
  return std::min(num_slots, std::max<int64_t>(1, TrafficStepSums::kMostRowNumbers / world));
}

enum Number { kWire, kInter, kBlocked, kIdle, kExposed, kHidden, kSplitRanks, kWireRanks, kNumNumbers };

}  // namespace

TrafficStepSums::TrafficStepSums(int rank, std::vector<int> pool_of_rank, int num_slots)
    : rank_(rank),
      pool_of_rank_(std::move(pool_of_rank)),
      num_slots_(2 * int64_t{num_slots}),
      num_seen_(NumSeen(world(), num_slots_)),
      pools_(1 + *std::max_element(pool_of_rank_.begin(), pool_of_rank_.end())) {
  ratios_.reserve(pools_.size() * num_seen_);
}

int64_t TrafficStepSums::NumNumbers(int world, int64_t num_slots) {
  return kNumNumbers + world + world * NumSeen(world, 2 * num_slots);
}

int64_t TrafficStepSums::SlotOf(int64_t step, int64_t j) const {
  return (j * num_slots_ / num_seen_ + step) % num_slots_;
}

void TrafficStepSums::Fill(const TrafficTally& tally, std::span<const int64_t> rows_received, int64_t step,
                           std::span<double> numbers) const {
  CHECK_EQ(static_cast<int64_t>(numbers.size()), size());
  const TrafficTotals& totals = tally.step();
  const auto set = [&](int64_t index, int64_t value) { numbers[index] = static_cast<double>(value); };
  set(kWire, totals.wire_bytes());
  set(kInter, totals.sum.bytes_inter);
  set(kBlocked, totals.sum.blocked_ns);
  set(kIdle, totals.sum.idle_ns + totals.sum.idle_receiver_ns);
  set(kExposed, totals.sum.exposed_ns);
  set(kHidden, totals.sum.hidden_ns);
  set(kSplitRanks, totals.is_split());
  set(kWireRanks, totals.has_wires());
  for (int r = 0; r < world(); ++r) set(kNumNumbers + r, tally.step_owed()[r]);
  const int64_t rows = kNumNumbers + world() + rank_ * num_seen_;
  if (static_cast<int64_t>(rows_received.size()) < num_slots_) return;
  for (int64_t j = 0; j < num_seen_; ++j) set(rows + j, rows_received[SlotOf(step, j)]);
}

TrafficStep TrafficStepSums::Read(std::span<const double> numbers) {
  CHECK_EQ(static_cast<int64_t>(numbers.size()), size());
  TrafficStep step{.wire_bytes = static_cast<int64_t>(numbers[kWire]),
                   .wire_bytes_inter = static_cast<int64_t>(numbers[kInter])};
  ReadTimes(numbers, step);
  ReadImbalance(numbers.subspan(kNumNumbers + world()), step);
  return step;
}

void TrafficStepSums::ReadTimes(std::span<const double> numbers, TrafficStep& step) const {
  const double to_ms = 1e-6 / world();
  step.blocked_ms = numbers[kBlocked] * to_ms;
  if (static_cast<int>(numbers[kSplitRanks]) < world()) return;
  step.idle_ms = numbers[kIdle] * to_ms;
  step.exposed_ms = numbers[kExposed] * to_ms;
  if (static_cast<int>(numbers[kWireRanks]) == world()) {
    const double wire = numbers[kHidden] + numbers[kExposed];
    step.hidden_share = wire > 0 ? numbers[kHidden] / wire : 1;
  }
  const std::span<const double> owed = numbers.subspan(kNumNumbers, world());
  const auto most = std::max_element(owed.begin(), owed.end());
  if (*most <= 0) return;
  step.waited_for_rank = most - owed.begin();
  step.waited_for_share = *most / std::accumulate(owed.begin(), owed.end(), 0.0);
}

void TrafficStepSums::ReadImbalance(std::span<const double> rows, TrafficStep& step) {
  ratios_.clear();
  double most = 0;
  for (int64_t j = 0; j < num_seen_; ++j) {
    std::fill(pools_.begin(), pools_.end(), Pool{});
    for (int r = 0; r < world(); ++r) {
      Pool& pool = pools_[pool_of_rank_[r]];
      const double count = rows[r * num_seen_ + j];
      pool.sum += count;
      pool.largest = std::max(pool.largest, count);
      ++pool.ranks;
    }
    for (const Pool& pool : pools_) {
      if (pool.ranks <= 1 || pool.sum <= 0) continue;
      ratios_.push_back(pool.largest * pool.ranks / pool.sum);
      most = std::max(most, pool.largest);
    }
  }
  if (ratios_.empty()) return;
  const auto count = static_cast<double>(ratios_.size());
  step.most_rows_received = std::llround(most);
  step.receive_imbalance = std::accumulate(ratios_.begin(), ratios_.end(), 0.0) / count;
  std::sort(ratios_.begin(), ratios_.end());
  step.receive_imbalance_p95 = ratios_[static_cast<size_t>(std::ceil(0.95 * count)) - 1];
}

}  // namespace unipool
