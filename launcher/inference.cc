#include "launcher/inference.h"

#include <filesystem>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "runtime/file_sum.h"

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
  LoadWeights(*world.communicator, folder, engine.state().Weights());
  engine.state().WeightsLoaded();
  RunTogether(*world.communicator, [&] {
    std::error_code ignored;
    const std::string saved = folder + "/config.txtpb";
    if (!std::filesystem::exists(saved, ignored)) return;  // a folder made elsewhere
    CheckSameModel(folder, ReadTextFile(saved), ResolvedConfigText(config));
  });
  return folder;
}

}  // namespace unipool
