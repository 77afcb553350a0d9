// A job whose ranks are processes that an MPI launcher has started.
#pragma once

#include "runtime/world.h"

namespace unipool {

// RunWorld (world.h) under an MPI launcher. Starts MPI and ends it. A process can do that only once.
int RunMpiWorld(const WorldOptions& options, const std::function<void(World&)>& body);

}  // namespace unipool
