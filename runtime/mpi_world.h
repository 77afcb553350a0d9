// A job whose ranks are processes that an MPI launcher has started.
#pragma once

#include "runtime/world.h"

namespace unipool {

// RunWorld under a launcher. Starts MPI and ends it, which a process can do only once.
int RunMpiWorld(const WorldOptions& options, const std::function<void(World&)>& body);

}  // namespace unipool
