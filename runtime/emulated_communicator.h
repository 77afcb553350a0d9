// A described cluster on one machine: ranks are threads, their data really travels through the thread
// transport, and what it would cost elsewhere is computed. So bubbles, overlap and imbalance of many ranks
// can be measured where there are fewer processors than ranks.
//
// Method. Each rank has a virtual clock (virtual_clock.h), shared by all communicators that are split from
// its first. It runs with the processor time of the rank's thread times compute_scale; inside Start, Wait and
// Split it stands still, so neither copying nor waiting nor being preempted counts. A block of n bytes that
// Start sends at virtual time t
//   leaves   at b = max(t, when the sender's outgoing link is free); the link is busy until b + n /
//   bandwidth, arrives  at max(b + latency, when the receiver's incoming link is free) + n / bandwidth,
// the first byte being received while the last is still sent. A rank has one outgoing and one incoming link
// for the wire inside its node and one each for the wire between nodes; blocks of one Start leave in the
// order rank + 1, rank + 2, ... An exchange is complete on a rank when all blocks for it have arrived and its
// own have left; Wait moves the clock there if it is later. Blocks of 0 bytes and a rank's own block cost
// nothing.
//
// What a wait was for. Of the time that Wait moves the clock, the part before the block that came last was
// started is idle (its sender was late); the rest is exposed communication. The wire time of an exchange is
// what it would take alone, latency + the larger of bytes out and bytes in / bandwidth; what of it was not
// exposed was hidden behind compute (or behind idling). A rank that is late because it waited for a wire
// makes others idle, so the whole price of a wire is only seen by comparing with an infinitely fast one.
//
// Limits. A link is given to blocks in order of Start and is not shared fairly, so a small block may wait
// behind a large one. Links are per rank: no contention inside the network. Sending and receiving take no
// processor time. Blocks that a rank waits for later take gaps that are left by those it waited for before,
// whichever came first. Processor times of ranks that share caches are somewhat longer than on processors of
// their own, and vary from run to run; given equal processor times, everything else is deterministic.
#pragma once

#include <memory>

#include "runtime/cluster_description.h"
#include "runtime/communicator.h"
#include "runtime/emulation_report.h"
#include "runtime/virtual_clock.h"

namespace unipool {

// One rank's part of the emulated world. Used by its thread alone.
class EmulatedRank {
 public:
  virtual ~EmulatedRank() = default;
  virtual double Now() = 0;              // virtual seconds since the rank began
  virtual EmulationReport Report() = 0;  // since the last reset
  virtual void ResetReport() = 0;
};

// What the ranks of one emulated job share: where a sender leaves word of when its block arrives.
class EmulatedWire;
std::shared_ptr<EmulatedWire> MakeEmulatedWire(int num_ranks, const ClusterDescription& cluster);

struct EmulatedWorld {
  std::shared_ptr<EmulatedRank> rank;
  std::unique_ptr<Communicator> communicator;
};
// Puts the emulation around a rank's thread communicator of the whole job. Called on the rank's own thread.
// The clock begins at 0 when it returns.
EmulatedWorld Emulate(std::unique_ptr<Communicator> transport, std::shared_ptr<EmulatedWire> wire,
                      std::function<double()> cpu_seconds = ThreadCpuSeconds);

}  // namespace unipool
