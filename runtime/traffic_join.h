// The idle times of one step where ranks are processes: after the step they tell each other when they started
// its exchanges. A number per exchange and pair of ranks that share a communicator, in one exchange.
#pragma once

#include <vector>

#include "runtime/traffic_recorder.h"

namespace unipool {

// For the kept records of the step that has just ended: fills in their idle times and causes, and adds them
// to the tally's window. Does nothing for exchanges of device memory. `offsets_ns` [world]: what to add to
// a rank's clock for that of rank 0. Collective over `world`, which is not recorded. Returns whether all
// ranks had kept all exchanges of the step; otherwise nothing is changed.
bool JoinStarts(TrafficRecorder& recorder, Communicator& world, const std::vector<int64_t>& offsets_ns);

}  // namespace unipool
