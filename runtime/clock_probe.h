// How far the clocks of two ranks are apart. Round trips of 8 bytes between them, of which the quickest
// counts (Cristian): its halves can differ by no more than itself, so half of it bounds the error.
//
//   reference  t0 ------------------> t3        offset = (t0 + t3) / 2 - t1, to +- (t3 - t0) / 2
//   other            \--> t1 --/                (sent on at once)
#pragma once

#include <functional>

#include "runtime/communicator.h"

namespace unipool {

struct ClockComparison {
  int64_t own_ns = 0;          // by the clock of the other rank
  int64_t offset_ns = 0;       // reference's clock = other's clock + offset_ns
  int64_t uncertainty_ns = 0;  // half the quickest round trip
  int num_probes = 0;
};

// Compares the clock of rank `other` with that of rank 0, num_probes >= 1 times. Collective: all other ranks
// take part without a byte. The result is known to `other` and rank 0.
ClockComparison CompareClocks(Communicator& communicator, int other, int num_probes,
                              const std::function<int64_t()>& now_ns);

// What ranks of one host share, and their clock with it: the kernel's boot id. "" where it cannot be read.
std::string BootId();

}  // namespace unipool
