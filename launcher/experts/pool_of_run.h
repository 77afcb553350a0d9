// The pool of a run whose experts fade (moe.shrink_to), between two of its sizes.
#pragma once

#include "configs/config.pb.h"
#include "runtime/world.h"

namespace unipool {

// The settings with the pool that the run has where it goes on: moe.experts becomes moe.shrink_to if the
// checkpoint that it goes on from holds that pool. Before, it takes the faded experts out of a checkpoint of
// moe.shrink_end or later; a copy with them stays in RUN_DIR/pools/experts-M. To be called with the run's
// lock. Collective. Throws UserError.
Config WithPoolOfRun(const Config& config, World& world);

}  // namespace unipool
