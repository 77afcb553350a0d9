// How many ranks a job has: as many as a launcher (mpirun, srun) started, or as the machine's cores allow.
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
// parallel.ranks 0 asks for no number.
std::string TakeLaunchedRanks(int launched, const std::vector<std::string>& overrides, Config& config);

// Without a launcher, for parallel.ranks 0: the largest number of ranks, at most `cores`, that batch and
// layout allow. Returns a sentence for people, "" where a number is given. Where no number fits it sets the
// smallest that the layout has, so that ValidateConfig says what does not. Throws UserError on GPUs.
std::string TakeAllCores(int cores, Config& config);

// "parallel.ranks=auto" is "parallel.ranks=0" for people, and "parallel.shadow_experts=auto" is -1; other
// overrides stay as they are.
std::vector<std::string> SpellOutAuto(std::vector<std::string> overrides);

}  // namespace unipool
