#include "runtime/host_cores.h"

#include <sched.h>

#include <map>
#include <set>
#include <sstream>

namespace unipool {

std::string AllowedCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::string text;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return text;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) text += std::to_string(core) + ",";
  }
  return text;
}

std::vector<int> HostCoresOfRanks(const std::vector<std::string>& host_of_rank,
                                  const std::vector<std::string>& cores) {
  std::map<std::string, std::set<std::string>> of_host;
  std::set<std::string> unknown;
  for (size_t rank = 0; rank < cores.size(); ++rank) {
    if (cores[rank].empty()) unknown.insert(host_of_rank[rank]);
    std::istringstream words(cores[rank]);
    for (std::string core; std::getline(words, core, ',');) of_host[host_of_rank[rank]].insert(core);
  }
  std::vector<int> result;
  for (const std::string& host : host_of_rank)
    result.push_back(unknown.contains(host) ? 0 : static_cast<int>(of_host[host].size()));
  return result;
}

}  // namespace unipool
