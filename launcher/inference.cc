#include "launcher/inference.h"

#include <filesystem>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/checkpoint_choice.h"
#include "launcher/checkpoints/model_folder.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

void Load(const std::string& folder, const Config& config, World& world, TrainingEngine& engine) {
  LoadWeights(*world.communicator, folder, engine.state().ModelTensors());
  engine.state().WeightsLoaded();
  RunTogether(*world.communicator, [&] {
    std::error_code ignored;
    const std::string saved = folder + "/config.txtpb";
    if (!fs::exists(saved, ignored)) return;  // a folder made elsewhere
    CheckSameModel(folder, ReadTextFile(saved), ResolvedConfigText(config));
  });
}

}  // namespace

std::string FindWeights(const CommandLine& line, const Config& config, World& world) {
  if (!line.checkpoint.empty()) return line.checkpoint;
  const std::string folder = FindCheckpointToUse(*world.communicator, config.run_dir());
  if (!folder.empty()) return folder;
  if (!config.train().init_from().empty()) return config.train().init_from();
  RunTogether(*world.communicator, [&] {
    if (world.rank() == 0) throw UserError(WhyNoCheckpoint(config.run_dir()));
  });
  return "";  // never
}

void LoadForInference(const std::string& folder, const Config& config, World& world, TrainingEngine& engine) {
  try {
    Load(folder, config, world, engine);
  } catch (const UserError&) {
    std::error_code ignored;
    if (StepOfCheckpoint(folder) < 0 || fs::exists(folder, ignored)) throw;
    throw UserError(folder +
                    ": was removed while it was read, by a run that keeps its newest checkpoints "
                    "(train.keep_checkpoints); repeat the command for the newest");
  }
}

}  // namespace unipool
