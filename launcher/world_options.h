// How the ranks of a configuration are started.
#pragma once

#include "configs/config.pb.h"
#include "runtime/world.h"

namespace unipool {

// Reads the description of the cluster to emulate, if there is one. Throws UserError.
WorldOptions WorldOptionsOf(const Config& config);

}  // namespace unipool
