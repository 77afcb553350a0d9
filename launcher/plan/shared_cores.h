// Cores that ranks share. A walk (parallel/step_walk.h) gives each rank a core of its own, so it knows
// nothing of ranks that wait for a core, and no step is planned where they do.
#pragma once

#include <string>
#include <vector>

#include "launcher/cluster.h"
#include "launcher/plan/core_quota.h"

namespace unipool {

// What tells this rank's machine from others. Hosts that are containers or network namespaces of one machine
// have one kernel, whose number it is. The host's name where the kernel tells none.
std::string MachineOf(const std::string& host);

// Cores that the ranks of a node may use together; of several nodes the fewest. Nodes on one machine have
// equal parts of its cores, be they less than one; a node whose ranks all have quotas has no more than these.
// By rank: `nodes` of NodesOf, `machines` of MachineOf, `cores` of AllowedCores, `quotas` of OwnQuota. 0: not
// known.
double CoresPerNode(const std::vector<int>& nodes, const std::vector<std::string>& machines,
                    const std::vector<std::string>& cores, const std::vector<CoreQuota>& quotas);

// Why no step of so many ranks is planned: they share cores, or those did that were calibrated. "": neither,
// or the file does not say how many cores a node has.
std::string SharedCoresText(const ClusterConfig& cluster, int ranks);

}  // namespace unipool
