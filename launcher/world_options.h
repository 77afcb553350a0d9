// How the ranks of a configuration are started: threads, a launcher's processes, or an emulated cluster.
#pragma once

#include "configs/config.pb.h"
#include "runtime/world.h"

namespace unipool {

// Also reads the description of the cluster to emulate, if parallel.emulate names one. Throws UserError when
// it cannot be read, or a launcher started the program.
WorldOptions WorldOptionsOf(const Config& config);

}  // namespace unipool
