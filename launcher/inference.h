// Weights for commands that do not train.
#pragma once

#include <string>

#include "launcher/command_line.h"
#include "models/training_engine.h"

namespace unipool {

// The folder of the weights to use: --checkpoint, else the newest whole checkpoint of run_dir with a sound
// loss (FindCheckpointToUse), else train.init_from. Throws UserError, with what to do, when there is none of
// the three. Collective.
std::string FindWeights(const CommandLine& line, const Config& config, World& world);

// Loads weights from `folder` into the engine. Throws UserError when it holds another model, or was removed
// meanwhile by the run that works there. Collective.
void LoadForInference(const std::string& folder, const Config& config, World& world, TrainingEngine& engine);

}  // namespace unipool
