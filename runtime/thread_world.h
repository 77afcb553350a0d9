// A job whose ranks are threads of this process.
#pragma once

#include "runtime/world.h"

namespace unipool {

// RunWorld (world.h) with options.num_threads ranks. A job of one rank runs on the calling thread.
int RunThreadWorld(const WorldOptions& options, const std::function<void(World&)>& body);

}  // namespace unipool
