// Processor time that a control group allows its processes, as cores. A container's limit is such a quota,
// and the cores that a process may be scheduled on (AllowedCores) do not show it.
#pragma once

#include <string>
#include <vector>

namespace unipool {

struct CoreQuota {
  double cores = 0;   // 0: no limit
  std::string group;  // that has it: what is in this group shares it
};

// The tightest of the process's groups. `groups`: the text of /proc/self/cgroup; `root`: where the groups are
// mounted, of either version.
CoreQuota QuotaOf(const std::string& groups, const std::string& root);
CoreQuota OwnQuota();  // of this process

// As a line of text between ranks, and back.
std::string TextOf(const CoreQuota& quota);
CoreQuota QuotaOfText(const std::string& text);

// Cores of a node whose ranks have these quotas: each group counts once. 0: a rank has no limit.
double CoresOfQuotas(const std::vector<CoreQuota>& ranks);

}  // namespace unipool
