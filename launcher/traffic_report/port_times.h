// How long blocks take that share the ports of a network in which no port and no link is slow.
#pragma once

#include <vector>

namespace unipool {

struct PortBlock {
  int from = 0, to = 0;  // ports
  double bytes = 0;
  double begin = 0;  // time, in that of a byte through a port
};

// When each block has come. A port carries one byte in a unit of time each way, and blocks that share one get
// equal parts of what others leave them (max-min fairness).
std::vector<double> PortTimes(const std::vector<PortBlock>& blocks, int num_ports);

}  // namespace unipool
