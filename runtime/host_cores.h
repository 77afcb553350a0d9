// The processor cores that ranks may use.
#pragma once

#include <string>
#include <vector>

namespace unipool {

// The cores that this thread may use, as text for HostCoresOfRanks: "1,3,". "" where the system does not say.
std::string AllowedCores();

// By rank: how many cores the ranks of its host may use together; 0: not known. `cores` are AllowedCores of
// the ranks.
std::vector<int> HostCoresOfRanks(const std::vector<std::string>& host_of_rank,
                                  const std::vector<std::string>& cores);

}  // namespace unipool
