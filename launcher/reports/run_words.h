// What a training run says of itself before its first step and after its last one.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "launcher/reports/progress.h"
#include "models/lock/owner_assignment.h"
#include "runtime/world.h"

namespace unipool {

// Four lines: the model with its parameters, device and ranks, data with tokens and epochs, layout.
// `data_tokens`: of the training split. REQUIRES: the configuration is valid for the world.
std::string OpeningText(const Config& config, const World& world, int64_t data_tokens);

// What deserves a warning before the first step, each a sentence: text that is a dataset in disguise.
std::vector<std::string> DataWarnings(const Config& config);

// Lines: steps, losses, time and speed of this start; what to try next. The first alone for a run that is
// to go on. "" when no step was done. `seconds`: of the start up to now. `program`: as it was called.
std::string ClosingText(const Config& config, const StartSummary& summary, double seconds,
                        const std::string& program);

// What moe.lock decided at the freeze.
std::string OwnersText(const OwnerAssignment& decided, int64_t step, int64_t lock_step);

}  // namespace unipool
