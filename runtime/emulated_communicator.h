// A described cluster (cluster_description.h) on one machine. Ranks are threads. A thread communicator
// carries their data, and what the data would cost on the cluster's wires is computed. So bubbles, overlap
// and imbalance of many ranks can be measured where there are fewer processors than ranks.
//
// Method. Each rank has a virtual clock (virtual_clock.h). All communicators that are split from the rank's
// first one share it. The clock runs with the processor time of the rank's thread, times compute_scale. It
// stands still inside Start, Wait and Split, so copying, waiting and being preempted do not count. Where
// the cluster's processors are described (work_is_told), it stands still while the rank computes too, and
// moves by what the rank is told its work takes: then nothing depends on the machine that emulates.
// A block of n bytes that Start sends at virtual time t over a wire of bandwidth w
//   leaves     from b = max(t, when the sender's outgoing link is free) until b + n / w
//   arrives    from a = max(b + latency, when the receiver's incoming link is free) until a + n / w
// So a receiver gets the first byte while the last is still being sent. A rank has one outgoing and one
// incoming link for the wire inside its node, and one of each for the wire between nodes. Blocks of one
// Start leave in the order rank + 1, rank + 2, ... An exchange is complete on a rank when all blocks for
// the rank have arrived and its own blocks have left. Wait moves the clock there if that is later. Blocks
// of 0 bytes and a rank's block to itself cost nothing.
//
// Example: two ranks with latency 1 and bandwidth 10 send each other 20 bytes. Rank 0 starts at time 0,
// rank 1 at time 4. The block from rank 0 leaves during 0 .. 2 and arrives during 1 .. 3. The block from
// rank 1 leaves during 4 .. 6 and arrives during 5 .. 7. Rank 0, which waits from time 0 on, was idle for
// 4 and exposed for 3.
//
// What a wait was for. A Wait moves the clock by some time. The part of it before the block that came last
// was started is idle time: the block's sender was late. The rest is exposed communication. The wire time
// of an exchange is what the exchange would take alone: latency + max(bytes out, bytes in) / bandwidth.
// The part of the wire time that was not exposed was hidden behind compute, or behind idle time. A rank
// that is late because it waited for a wire makes other ranks idle. So the whole price of a wire only
// shows beside a run with an infinitely fast wire.
//
// Limits:
//   - A link serves blocks in order of Start and does not share itself, so a small block may wait behind a
//     large one.
//   - Links belong to ranks. Contention is a share of a link's bandwidth (WireShare) and knows nothing of
//     other ranks' blocks.
//   - Sending and receiving take no processor time.
//   - Blocks take gaps on the incoming link in the order of waiting, not of sending. The block that a rank
//     waits for first takes the first gap that it fits, even where another block was sent before it.
//     Example: Take in emulated_link.h.
//   - Ranks that share caches compute somewhat longer than on processors of their own, and times vary from
//     run to run. Given equal processor times, everything else is deterministic.
#pragma once

#include <memory>

#include "runtime/cluster_description.h"
#include "runtime/communicator.h"
#include "runtime/emulation_report.h"
#include "runtime/virtual_clock.h"

namespace unipool {

// One rank's part of the emulated world. Only the rank's own thread uses it.
class EmulatedRank {
 public:
  virtual ~EmulatedRank() = default;
  virtual double Now() = 0;  // virtual seconds since the rank began
  // The rank has worked for so long (ClusterDescription::work_is_told).
  virtual void Work(double seconds) = 0;
  virtual EmulationReport Report() = 0;  // of the time since the last reset
  virtual void ResetReport() = 0;
};

// What the ranks of one emulated job share. Here a sender leaves word of when its block arrives.
class EmulatedWire;
std::shared_ptr<EmulatedWire> MakeEmulatedWire(int num_ranks, const ClusterDescription& cluster);

struct EmulatedWorld {
  std::shared_ptr<EmulatedRank> rank;
  std::unique_ptr<Communicator> communicator;
};
// Puts the emulation around `carrier`, a rank's thread communicator of the whole job. Called on the rank's
// own thread. The rank's clock begins at 0 when Emulate returns.
EmulatedWorld Emulate(std::unique_ptr<Communicator> carrier, std::shared_ptr<EmulatedWire> wire,
                      std::function<double()> cpu_seconds = ThreadCpuSeconds);

}  // namespace unipool
