// What the waits of joined exchanges were for: late senders, late receivers, the wire, a transport in which
// nobody moved the data; and how far clocks can be believed.
#pragma once

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "launcher/traffic_report/joined_traffic.h"

namespace unipool {

// No block arrives before it was sent. Of pairs of ranks on different clocks.
struct Causality {
  int64_t num_checks = 0, num_violations = 0;  // beyond the clocks' uncertainty
  int64_t largest_ns = 0;                      // of the violations, beyond the uncertainty
  // Exchanges bound the error of an offset from both sides: by clock (ClockMap::DomainOf), the offset that
  // was used may be too small by `above` and too large by `below` at most.
  struct Bounds {
    int64_t below_ns = INT64_MAX, above_ns = INT64_MAX;
  };
  std::map<int, Bounds> of_clock;
  // More than one check in a thousand failed: times across hosts say nothing.
  bool Breached() const { return num_violations * 1000 > num_checks; }
};

// Moving time told by clocks, and without them: of the ranks that were blocked at the end of an exchange with
// level sizes, the shortest time from its own start, since the last rank that starts waits for nobody.
struct ClockFree {
  int64_t num_exchanges = 0;                // that it applies to
  double by_clocks_ns = 0, without_ns = 0;  // sums over them
  double uncertainty_ns = 0;
  bool Disagrees() const {
    return num_exchanges > 0 && by_clocks_ns - without_ns > uncertainty_ns + 0.1 * without_ns;
  }
};

// Time that an exchange of so many bytes takes when all ranks attend to it: a low quantile of what was seen.
class WireTimes {
 public:
  void Add(int64_t bytes, int64_t ns);
  void Finish();
  // Nothing is known: a negative number.
  double Ns(int64_t bytes) const;
  // Straight line through the quantiles: ns = alpha + bytes * beta.
  double alpha_ns() const { return alpha_; }
  double beta_ns() const { return beta_; }

 private:
  static constexpr int kBins = 64;
  static constexpr double kSpread = 4;
  std::array<std::vector<std::pair<int64_t, int64_t>>, kBins> bins_;  // by power of two: (bytes, ns)
  double alpha_ = 0, beta_ = -1;
};

struct WaitEvidence {
  Causality causality;
  ClockFree clock_free;
  WireTimes wire;  // of exchanges with all ranks inside the transport
};

// Fills in the fields of every part. Times across hosts stay unknown where the check of causality fails.
WaitEvidence SplitExchanges(JoinedTraffic& traffic, const RecordedManifest& manifest, const ClockMap& clocks);

// The larger of what the part sends to other ranks and gets from them.
int64_t BytesOnWire(const ExchangePart& part);

}  // namespace unipool
