// A job whose ranks are threads of this process.
#pragma once

#include "runtime/world.h"

namespace unipool {

// RunWorld for options.num_threads threads. One rank runs on the calling thread.
int RunThreadWorld(const WorldOptions& options, const std::function<void(World&)>& body);

}  // namespace unipool
