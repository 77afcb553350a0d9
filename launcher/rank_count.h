// How many ranks a job has when a launcher (mpirun, srun) started it.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// Under a launcher the processes that it started are the ranks. The file's parallel.ranks counts threads of
// one process and does not hold there, so that one file serves both. Sets parallel.ranks of `config` to
// `launched`.
//
// Returns a sentence for people when the file says another number, otherwise "". Throws UserError when one of
// `overrides` ("parallel.ranks=4") asks for another number: whoever writes that means it.
std::string TakeLaunchedRanks(int launched, const std::vector<std::string>& overrides, Config& config);

}  // namespace unipool
