// Weights for commands that do not train.
#pragma once

#include <string>

#include "launcher/command_line.h"
#include "launcher/data/data_split.h"
#include "models/training_engine.h"

namespace unipool {

// The folder of the weights to use: --checkpoint, else the newest whole checkpoint of run_dir with a sound
// loss (FindCheckpointToUse), else train.init_from. Throws UserError, with what to do, when there is none of
// the three. Collective.
std::string FindWeights(const CommandLine& line, const Config& config, World& world);

// Loads weights from `folder` into the engine. Throws UserError when it holds another model, or was removed
// meanwhile by the run that works there. Collective.
void LoadForInference(const std::string& folder, const Config& config, World& world, TrainingEngine& engine);

// Any checkpoint loads in any layout, so the sizes of training need not fit this one: without training a
// step is one microbatch, and stages and replicas that do not divide the ranks are left out.
void FitToRanks(int ranks, Config& config);

// For commands that work on one rank, whatever the run's layout: sets it. Throws UserError under mpirun.
void RunAlone(Config& config);

// The value of --split, and whether that of --sequences can be. Throw UserError.
Split SplitNamed(const std::string& name);
void CheckSequences(int64_t sequences);

}  // namespace unipool
