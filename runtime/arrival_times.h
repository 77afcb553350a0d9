// When bytes of each peer came, from a communicator that sees it: whose wire a wait was for.
#pragma once

#include <cstdint>
#include <span>

namespace unipool {

// A communicator may be one of these too. It looks while it is called: bytes that came while the rank
// computed are seen when it calls next.
class ArrivalTimes {
 public:
  virtual ~ArrivalTimes() = default;
  // Of the exchange that was waited for last, by rank: CLOCK_MONOTONIC, ns, at which the last byte from it
  // was seen to have arrived; 0: it sent nothing. Valid until the next Start.
  virtual std::span<const int64_t> Arrivals() const = 0;
};

}  // namespace unipool
