// One clock for the records of all ranks. Ranks of one boot_id share a clock. Between others clocks were
// compared now and then (ClockRecord): between two comparisons the offset is taken as a straight line, so
// that drift is followed. Outside of them the line goes on, and the uncertainty grows by what the
// comparisons leave open.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/traffic_report/recorded_run.h"

namespace unipool {

class ClockMap {
 public:
  // The common clock is that of rank 0's host. A virtual clock is common to all.
  explicit ClockMap(const RecordedRun& folder);

  // Ranks whose clocks can be put together with that of rank 0.
  bool IsKnown(int rank) const { return lines_[domain_[rank]].is_known; }
  // Whether two ranks read the same clock, which needs no comparison.
  bool Share(int a, int b) const { return domain_[a] == domain_[b]; }
  // REQUIRES: IsKnown(rank), for all of these. `ns`: by the rank's own clock; -1 stays -1.
  int64_t Common(int rank, int64_t ns) const;
  // How wrong Common may be at that moment; 0 on the hosts that share rank 0's clock.
  int64_t UncertaintyNs(int rank, int64_t ns) const;
  // Of the comparison between two ranks' clocks; 0 where they share one.
  int64_t UncertaintyBetween(int a, int b, int64_t common_ns) const;

  int num_clocks() const { return static_cast<int>(lines_.size()); }
  int DomainOf(int rank) const { return domain_[rank]; }
  // Largest offset from rank 0's clock, and largest drift (seconds a second), over the comparisons.
  double LargestOffsetSeconds() const;
  double LargestDrift() const;
  // Two comparisons of one clock say less than this of drift outside of them: quartz of computers.
  static constexpr double kUnknownDrift = 1e-4;

 private:
  struct Line {
    bool is_known = false;
    std::vector<ComparedClocks> points;  // by own_ns, against rank 0's clock
  };
  struct Offset {
    double ns = 0, uncertainty_ns = 0;
  };
  Offset OffsetAt(const Line& line, int64_t own_ns) const;
  std::vector<int> domain_;  // by rank
  std::vector<Line> lines_;  // by domain
};

}  // namespace unipool
