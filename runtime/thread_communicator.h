// The transport of ranks that are threads of one process. A block goes straight from the sender's memory into
// the receiver's, copied by whichever side waits first once both have started: a rank that computes holds
// nobody up, and no order of waiting can lock up.
//
// Exchanges are numbered by order of Start and matched by that number. Blocks whose two sides disagree about
// their size, also when one side says 0, end the job with both numbers. At most 32 exchanges of one
// communicator may be under way.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "runtime/communicator.h"

namespace unipool {

// One communicator per rank; each is used, and destroyed, by its own thread. `timeout` bounds every wait.
std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(int size,
                                                                   std::chrono::milliseconds timeout);

}  // namespace unipool
