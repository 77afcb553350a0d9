#include "launcher/slurm/node_check.h"

#include <algorithm>

#include "runtime/format.h"

namespace unipool {
namespace {

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// A node's time with its best partner: a slow partner makes one of its times long, a slow node all of them.
double BestExchange(const NodeFigures& node) {
  double best = 0;
  for (const double seconds : node.exchange_seconds) {
    if (seconds > 0 && (best == 0 || seconds < best)) best = seconds;
  }
  return best;
}

}  // namespace

std::vector<SlowNode> FindSlowNodes(const std::vector<NodeFigures>& nodes, double factor) {
  std::vector<double> gemm, memory, exchange;
  for (const NodeFigures& node : nodes) {
    gemm.push_back(node.gemm_gflops);
    memory.push_back(node.memory_gbps);
    exchange.push_back(BestExchange(node));
  }
  const double median_gemm = Median(gemm), median_memory = Median(memory), median_exchange = Median(exchange);
  std::vector<SlowNode> slow;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const NodeFigures& node = nodes[i];
    if (!node.fault.empty()) {
      slow.push_back({node.host, node.fault});
    } else if (node.gemm_gflops * factor < median_gemm) {
      slow.push_back({node.host, Format("a product runs at %.3g GFLOP/s, and at %.3g on the median node",
                                        node.gemm_gflops, median_gemm)});
    } else if (node.memory_gbps * factor < median_memory) {
      slow.push_back({node.host, Format("memory is copied at %.3g GB/s, and at %.3g on the median node",
                                        node.memory_gbps, median_memory)});
    } else if (nodes.size() > 2 && exchange[i] > factor * median_exchange) {
      slow.push_back({node.host, Format("an exchange takes %.3g ms at best, and %.3g on the median node",
                                        1e3 * exchange[i], 1e3 * median_exchange)});
    }
  }
  return slow;
}

NodeChoice ChooseNodes(const std::vector<NodeFigures>& nodes, const std::vector<SlowNode>& slow, int spare) {
  NodeChoice choice;
  for (const SlowNode& node : slow) {
    choice.slow_hosts.push_back(node.host);
    choice.reason += (choice.reason.empty() ? "" : "; ") + node.host + ": " + node.reason;
  }
  choice.is_enough = static_cast<int>(slow.size()) <= spare;
  if (!choice.is_enough) return choice;
  const size_t wanted = nodes.size() - std::min<size_t>(spare, nodes.size());
  for (const NodeFigures& node : nodes) {
    const bool is_slow =
        std::find(choice.slow_hosts.begin(), choice.slow_hosts.end(), node.host) != choice.slow_hosts.end();
    (is_slow || choice.hosts.size() == wanted ? choice.spare_hosts : choice.hosts).push_back(node.host);
  }
  return choice;
}

}  // namespace unipool
