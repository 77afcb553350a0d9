// Weights for commands that do not train.
#pragma once

#include <string>

#include "launcher/command_line.h"
#include "models/training_engine.h"

namespace unipool {

// Loads --checkpoint, else the newest checkpoint of run_dir, else train.init_from into the engine and returns
// the folder. Throws UserError when there is none. Collective.
std::string LoadForInference(const CommandLine& line, const Config& config, World& world,
                             TrainingEngine& engine);

}  // namespace unipool
