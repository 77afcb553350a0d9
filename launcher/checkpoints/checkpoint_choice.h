// Which checkpoint of a run can be used. All functions are collective over `world`; what fails on one rank is
// thrown as one UserError on all.
#pragma once

#include <string>

#include "runtime/communicator.h"

namespace unipool {

// What keeps the checkpoint in `dir` from being used, or "". The ranks share the files and read every byte.
// Throws UserError where a file cannot be read, for example for want of a permission: it may be whole.
std::string WhyUnusable(Communicator& world, const std::string& dir);

// The newest whole checkpoint of the run, or "" where there is none. Newer ones that are damaged are named on
// the standard error stream. Throws UserError, which names each, where there are checkpoints and none is
// whole.
std::string FindNewestCheckpoint(Communicator& world, const std::string& run_dir);

// For use without training: the newest whole checkpoint whose loss was sound (saved_state.h), and where there
// is none the newest whole one. Newer ones that are passed over are named on the standard error stream.
// Throws as FindNewestCheckpoint.
std::string FindCheckpointToUse(Communicator& world, const std::string& run_dir);

}  // namespace unipool
