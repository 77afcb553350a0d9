#include "launcher/inference.h"

#include "launcher/checkpoint.h"

namespace unipool {

std::string LoadForInference(const CommandLine& line, const Config& config, World& world,
                             TrainingEngine& engine) {
  std::string folder = line.checkpoint;
  if (folder.empty()) folder = FindNewestCheckpoint(*world.communicator, config.run_dir());
  if (folder.empty()) folder = config.train().init_from();
  if (folder.empty()) {
    throw UserError("no checkpoint in " + config.run_dir() +
                    "/checkpoints: train first, or name a folder with --checkpoint");
  }
  LoadWeights(*world.communicator, folder, engine.DiskTensors());
  return folder;
}

}  // namespace unipool
