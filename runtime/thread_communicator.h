// The communicator of ranks that are threads of one process. A block goes straight from the sender's memory
// into the receiver's. Once both sides have started the exchange, the side that waits first copies the block.
// So a rank that computes holds nobody up, and no order of waiting can lock up.
//
// Exchanges are numbered in the order of Start, and the two sides are matched by that number. Where the two
// sides of a block disagree about its size, the job ends with both numbers, also where one side says 0.
#pragma once

#include <memory>
#include <vector>

#include "runtime/communicator.h"
#include "runtime/watchdog.h"

namespace unipool {

// One communicator a rank. The rank's own thread uses and destroys it. The limits bound every wait. The rank
// that ends the process calls on_end before it does.
std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(int size, const WatchdogLimits& limits,
                                                                   const JobEndHook& on_end = {});

}  // namespace unipool
