// Measures the wires between the ranks of a job: latency and bandwidth of pairs inside a node and between
// nodes, what is left of a link where all talk with all, and how much of the wire goes on while ranks
// compute.
#pragma once

#include <functional>
#include <vector>

#include "configs/cluster.pb.h"
#include "runtime/world.h"

namespace unipool {

struct WiresMeasured {
  bool has_intra = false, has_inter = false;
  WireConfig intra, inter;
  double intra_spread = 0, inter_spread = 0;
  double overlap = 1;
};

// node_of_rank: equal numbers of consecutive ranks share a node. All pairs of a class are measured at
// once, so that ranks share what they would share in a run. Collective over the world.
WiresMeasured MeasureWires(const std::vector<int>& node_of_rank, World& world,
                           const std::function<double()>& clock);

}  // namespace unipool
