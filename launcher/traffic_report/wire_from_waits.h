// Which node's wires are slow, where nobody saw when the bytes of each peer came (device memory): from the
// times that ranks waited for the wire and the bytes that came between nodes meanwhile.
#pragma once

#include <vector>

#include "launcher/traffic_report/slow_wire.h"

namespace unipool {

// The wire whose bytes the waits follow clearly better than any other's, beyond what all wires alike explain,
// and that is clearly slower; else nothing. Whose waits grow with whose bytes tells wires apart, so it takes
// exchanges of unequal bytes. A sender's own waits do not tell, since what it sends may lie in buffers when
// its wait ends. node_of_rank: [world].
std::vector<SlowWire> WireFromWaits(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank);

}  // namespace unipool
