// Which node's wires are slow: from the times that ranks waited for the wire and the bytes that came between
// nodes meanwhile.
#pragma once

#include <vector>

#include "launcher/traffic_report/joined_traffic.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

// Bytes of node `from` to node `to`; -1: to, or from, all others. is_one_way: else the other way is slow too,
// or it cannot be told. Rates are bytes a second of what moved while a node waited: of these bytes, to all
// receivers together, and of the next slower ones of their kind.
struct SlowWire {
  int from = -1, to = -1;
  bool is_one_way = false;
  double rate = 0, next_rate = 0;
};

// A wire that explains the waits clearly better than any other, beyond what all wires alike explain, and that
// is clearly slower; else nothing. Whose waits grow with whose bytes tells wires apart. A sender's own waits
// do not tell, since what it sends may lie in buffers when its wait ends. Nothing where nodes are fewer than
// two, or wires are described (emulated clusters).
std::vector<SlowWire> FindSlowWires(const JoinedTraffic& traffic, const RecordedManifest& manifest);

}  // namespace unipool
