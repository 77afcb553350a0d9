// What the exchanges of a step cost, over all ranks. The numbers travel with the statistics that a step adds
// up anyway, so they cost no exchange of their own.
//
// A step's numbers hold what was recorded since the numbers of the step before were filled in. So exchanges
// after the statistics (parameters that are gathered) count for the next step, and nothing is lost or counted
// twice. But where idle times are found out after a step (traffic_join.h), its blocked, idle and exposed
// times are those of its own exchanges, so that they add up. Definitions: launcher/reports/METRICS.md.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "runtime/traffic_recorder.h"

namespace unipool {

struct TrafficStep {
  int64_t wire_bytes = 0, wire_bytes_inter = 0;  // over all ranks
  double blocked_ms = 0;                         // of a rank, mean
  // Where all ranks know them. idle_ms: late senders and late receivers.
  std::optional<double> idle_ms, exposed_ms, hidden_share;
  std::optional<int64_t> waited_for_rank;  // who caused most idle time; absent: there was none
  std::optional<double> waited_for_share;  // its part of all idle time
  // Over the (slot, lane)s with rows: largest rows received by a rank / mean of its pool's ranks.
  std::optional<double> receive_imbalance, receive_imbalance_p95;
  std::optional<int64_t> most_rows_received;  // of these, by one rank in one (slot, lane)
};

class TrafficStepSums {
 public:
  // Most numbers for receive_imbalance. Where more would be needed, each step looks at other slots in turn.
  static constexpr int64_t kMostRowNumbers = 16'384;

  // pool_of_rank: [world], ranks that share experts have one number. num_slots: of a step.
  TrafficStepSums(int rank, std::vector<int> pool_of_rank, int num_slots);
  int64_t size() const { return NumNumbers(world(), num_slots_ / 2); }
  static int64_t NumNumbers(int world, int64_t num_slots);
  // This rank's share of the numbers, [size()], of a step. REQUIRES: `numbers` are 0.
  void Fill(const TrafficTally& tally, std::span<const int64_t> rows_received, int64_t step,
            std::span<double> numbers) const;
  // From the numbers added up over all ranks. Neither allocates.
  TrafficStep Read(std::span<const double> numbers);

 private:
  int world() const { return static_cast<int>(pool_of_rank_.size()); }
  int64_t SlotOf(int64_t step, int64_t j) const;  // the jth that the step looks at, in both lanes
  void ReadTimes(std::span<const double> numbers, TrafficStep& step) const;
  void ReadImbalance(std::span<const double> rows, TrafficStep& step);

  const int rank_;
  const std::vector<int> pool_of_rank_;
  const int64_t num_slots_;  // in both lanes
  const int64_t num_seen_;   // of these in a step
  // Of one slot, by pool; and the ratios of all slots and pools.
  struct Pool {
    double sum = 0, largest = 0;
    int ranks = 0;
  };
  std::vector<Pool> pools_;
  std::vector<double> ratios_;
};

}  // namespace unipool
