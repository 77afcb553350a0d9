#include "launcher/inference.h"

#include <filesystem>
#include <limits>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/checkpoint_choice.h"
#include "launcher/checkpoints/model_folder.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "launcher/world_options.h"
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

void FitToRanks(int ranks, Config& config) {
  ParallelConfig& parallel = *config.mutable_parallel();
  TrainConfig& train = *config.mutable_train();
  if (parallel.stages() < 1 || parallel.pool_replicas() < 1) return;  // refused later
  const int64_t parts = int64_t{parallel.stages()} * parallel.pool_replicas();
  if (ranks % parts != 0) {
    parallel.set_stages(1);
    parallel.set_pool_replicas(1);
    parallel.clear_layers_per_stage();
  }
  const int64_t batch = int64_t{train.micro_batch()} * (ranks / parallel.stages());
  if (batch <= std::numeric_limits<int32_t>::max()) train.set_global_batch(static_cast<int32_t>(batch));
}

void RunAlone(Config& config) {
  config.mutable_parallel()->Clear();
  if (const int ranks = WorldSize(WorldOptionsOf(config)); ranks != 1)
    throw UserError(Format("this command works alone; start it without mpirun (there are %d ranks)", ranks));
  FitToRanks(1, config);
  ValidateConfig(config, 1);
}

Split SplitNamed(const std::string& name) {
  if (name == "train") return Split::kTrain;
  if (name == "valid") return Split::kValid;
  if (name == "test") return Split::kTest;
  throw UserError("--split=" + name + ": must be train, valid or test");
}

void CheckSequences(int64_t sequences) {
  if (sequences < 0)
    throw UserError(Format("--sequences=%d: must be 0 (the whole split) or more", sequences));
}

}  // namespace unipool
