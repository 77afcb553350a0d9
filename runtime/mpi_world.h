// A job whose ranks are processes that an MPI launcher has started.
#pragma once

#include <string>

#include "runtime/world.h"

namespace unipool {

// RunWorld (world.h) under an MPI launcher. Starts MPI and ends it. A process can do that only once.
int RunMpiWorld(const WorldOptions& options, const std::function<void(World&)>& body);

// Name and version of the MPI library, "Open MPI v4.1.4". MPI need not have been started.
std::string MpiVersion();

}  // namespace unipool
