// Weights for commands that do not train.
#pragma once

#include <string>

#include "launcher/command_line.h"
#include "models/training_engine.h"

namespace unipool {

// Loads weights into the engine and returns their folder: --checkpoint, else the newest checkpoint of
// run_dir, else train.init_from. Throws UserError when there is none of the three, or it holds another model.
// Collective.
std::string LoadForInference(const CommandLine& line, const Config& config, World& world,
                             TrainingEngine& engine);

}  // namespace unipool
