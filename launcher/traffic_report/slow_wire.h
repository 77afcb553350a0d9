// Which wire is slow: from the times that exchanges took and the bytes that went between each two
// nodes (or ranks).
#pragma once

#include <string>
#include <vector>

#include "launcher/traffic_report/joined_traffic.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

struct WireRates {
  bool by_node = false;     // nodes where that tells a slow wire, else ranks
  Matrix bytes_per_second;  // [from][to], an estimate; unknown where too few bytes went
  struct Slow {
    bool is_one_way = false;          // else the other direction is as slow, or it cannot be told
    int from = -1, to = -1;           // to = -1: all wires of `from`
    double rate = 0, usual_rate = 0;  // bytes a second; usual: median of the others
  };
  std::vector<Slow> slow;  // at most one: the slowest, where it is clearly slower than the others
};

// From waits that were for the wire. A wait ends when the slowest of its blocks has moved, so for each two
// ends the quickest rate is sought at which no wait lasts much longer than measured.
WireRates FindSlowWires(const JoinedTraffic& traffic, const RecordedManifest& manifest);

}  // namespace unipool
