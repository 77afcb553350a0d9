#include "launcher/experts/pool_of_run.h"

#include <filesystem>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/resume_point.h"
#include "launcher/config.h"
#include "launcher/experts/pool_shrinking.h"
#include "launcher/experts/saved_model.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// The larger pool, for whoever wants it: the smaller one lies inside it.
void KeepCopy(const std::string& run_dir, const std::string& checkpoint, int experts) {
  const fs::path copy = fs::path(run_dir) / "pools" / Format("experts-%d", experts);
  const fs::path partial = copy.string() + ".partial";
  try {
    if (fs::exists(copy)) return;
    fs::remove_all(partial);
    fs::create_directories(partial);
    fs::copy(checkpoint, partial, fs::copy_options::recursive);
    fs::rename(partial, copy);
  } catch (const fs::filesystem_error& error) {
    throw UserError(copy.string() + ": cannot be written (" + error.code().message() + ")");
  }
}

void ShrinkCheckpoint(const Config& config, const std::string& checkpoint) {
  KeepCopy(config.run_dir(), checkpoint, config.moe().experts());
  SavedModel model = ReadSavedModel(checkpoint);
  const int64_t shrink_to = config.moe().shrink_to();
  model.config.mutable_moe()->set_shrink_to(static_cast<int32_t>(shrink_to));
  ShrinkFaded(model);
  SaveModel(config.run_dir(), model);
}

}  // namespace

Config WithPoolOfRun(const Config& config, World& world) {
  const MoeConfig& moe = config.moe();
  if (moe.shrink_to() == 0 || moe.experts() <= moe.shrink_to()) return config;
  const std::string checkpoint = FindResumePoint(*world.communicator, config).checkpoint;
  if (checkpoint.empty()) return config;
  int experts = 0;
  RunTogether(*world.communicator, [&] {
    experts = LoadConfig((fs::path(checkpoint) / "config.txtpb").string(), {}).moe().experts();
  });
  if (experts == moe.experts()) {
    if (StepOfCheckpoint(checkpoint) < moe.shrink_end()) return config;
    RunTogether(
        *world.communicator,
        [&] {
          if (world.rank() == 0) ShrinkCheckpoint(config, checkpoint);
        },
        "shrinks the pool");
  } else if (experts != moe.shrink_to()) {
    return config;  // another run's; the start says so
  }
  Config smaller = config;
  smaller.mutable_moe()->set_experts(moe.shrink_to());
  return smaller;
}

}  // namespace unipool
