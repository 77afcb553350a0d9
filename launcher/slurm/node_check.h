// Which nodes of a job compute or talk much slower than the others. A node is slow if one of its figures is
// worse than the median over the nodes by a factor; a node among few cannot be told from its neighbours by
// talking alone.
#pragma once

#include <string>
#include <vector>

namespace unipool {

// Of one node: the slowest of its ranks.
struct NodeFigures {
  std::string host;
  double gemm_gflops = 0;                // of each rank's product
  double memory_gbps = 0;                // of each rank's copy of memory, which is checked
  std::vector<double> exchange_seconds;  // with each node, in the order of the nodes; 0 for itself
  std::string fault;                     // "memory holds other values than were written"; "" for none
};

struct SlowNode {
  std::string host, reason;  // a clause with both figures
};
// REQUIRES: exchange_seconds has an entry for each node. `factor` is how many times worse than the median
// is too slow.
std::vector<SlowNode> FindSlowNodes(const std::vector<NodeFigures>& nodes, double factor);

// Which nodes of a job train: all but `spare` of them.
struct NodeChoice {
  bool is_enough = false;                       // at most `spare` are slow
  std::vector<std::string> hosts, spare_hosts;  // where it is enough; slow ones are among the spare
  std::vector<std::string> slow_hosts;
  std::string reason;  // of the slow ones; "" when there are none
};
NodeChoice ChooseNodes(const std::vector<NodeFigures>& nodes, const std::vector<SlowNode>& slow, int spare);

}  // namespace unipool
