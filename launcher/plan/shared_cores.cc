#include "launcher/plan/shared_cores.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "runtime/errors.h"
#include "runtime/host_cores.h"

namespace unipool {

std::string MachineOf(const std::string& host) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string number;
  return file >> number ? number : host;
}

double CoresPerNode(const std::vector<int>& nodes, const std::vector<std::string>& machines,
                    const std::vector<std::string>& cores, const std::vector<CoreQuota>& quotas) {
  const std::vector<int> of_machine = HostCoresOfRanks(machines, cores);
  std::map<std::string, std::set<int>> nodes_of;
  std::map<int, std::vector<CoreQuota>> quotas_of;
  for (size_t rank = 0; rank < nodes.size(); ++rank) {
    nodes_of[machines[rank]].insert(nodes[rank]);
    quotas_of[nodes[rank]].push_back(quotas[rank]);
  }
  double fewest = 0;
  for (size_t rank = 0; rank < nodes.size(); ++rank) {
    if (of_machine[rank] == 0) return 0;
    double of_node = of_machine[rank] / static_cast<double>(nodes_of[machines[rank]].size());
    const double quota = CoresOfQuotas(quotas_of[nodes[rank]]);
    if (quota > 0) of_node = std::min(of_node, quota);
    fewest = rank == 0 ? of_node : std::min(fewest, of_node);
  }
  return fewest;
}

std::string SharedCoresText(const ClusterConfig& cluster, int ranks) {
  const double cores = cluster.cores_per_node();
  if (cores <= 0) return "";
  const int per_node = cluster.ranks_per_node() > 0 ? std::min(ranks, cluster.ranks_per_node()) : ranks;
  if (per_node > cores) {
    return Format(
        "%d %s of a node share %g %s (cores_per_node): a plan gives each rank a core of its own, so no step "
        "of this machine is planned",
        per_node, per_node == 1 ? "rank" : "ranks", cores, cores == 1 ? "core" : "cores");
  }
  const int measured = cluster.processor().ranks_at_once();
  if (measured <= cores) return "";
  return Format(
      "rates were measured by %d ranks of a node that shared %g %s (processor.ranks_at_once): a rank's times "
      "hold what others took of its core, so no step is planned; calibrate with fewer ranks a node",
      measured, cores, cores == 1 ? "core" : "cores");
}

}  // namespace unipool
