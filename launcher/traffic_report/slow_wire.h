// Which node's wires are slow.
#pragma once

#include <vector>

#include "launcher/traffic_report/joined_traffic.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

// Bytes of node `from` to node `to`; -1: to, or from, all others. Rates are bytes a second of what moved
// while a node waited; kUnknown: nobody waited for those. A port's are those of all its bytes together.
struct SlowWire {
  int from = -1, to = -1;
  enum Way { kOneWay, kBothWays, kUnknownWay } way = kUnknownWay;  // whether the other way is slow too
  double rate = 0, next_rate = 0;                                  // of these bytes; of others of their kind
  double back_rate = kUnknown;                                     // the other way, where that is slow too
  double share = 1;         // of what ranks wait for the wire: this wire's
  double times = kUnknown;  // as long as others their bytes take; unknown: not measured
};

// A wire that is clearly slower than all the others and that ranks wait for; else nothing. Where ranks saw
// when the bytes of each peer came (MPI), from these times: the bytes of a slow port come late to all, or
// from all, exchange after exchange. Elsewhere from waits alone (wire_from_waits.h). Nothing where nodes are
// fewer than two, or wires are described (emulated clusters).
std::vector<SlowWire> FindSlowWires(const JoinedTraffic& traffic, const RecordedManifest& manifest);

}  // namespace unipool
