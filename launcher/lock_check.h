// What can be wrong with moe.lock, from the settings alone.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// A sentence for each problem; empty where there is none. REQUIRES: the other settings are valid, each alone.
std::vector<std::string> LockProblems(const Config& config);

}  // namespace unipool
