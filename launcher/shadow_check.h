// What can be wrong with parallel.shadow_experts, from the settings and the number of ranks.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// A sentence for each problem; empty where there is none. REQUIRES: stages x replicas divide the ranks.
std::vector<std::string> ShadowProblems(const Config& config, int world_size);

}  // namespace unipool
