#include <filesystem>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/commands.h"
#include "launcher/standard_output.h"
#include "runtime/errors.h"
#include "runtime/world.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// Throws UserError where the checkpoint is not as saved.
std::string Verified(const std::string& dir) {
  try {
    VerifyFiles(dir, 0, 1);
    const SavedState state = ReadSavedState(dir);
    if (state.files.empty()) return dir + ": complete; it was saved without sums, so its data is not checked";
    int64_t bytes = 0;
    for (const auto& [name, sum] : state.files) bytes += sum.bytes;
    return Format("%s: as saved, step %d, %d files, %d bytes", dir.c_str(), state.step,
                  static_cast<int64_t>(state.files.size()), bytes);
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    throw UserError(dir + ": " + error.what());
  }
}

bool IsCheckpoint(const std::string& dir) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(fs::path(dir) / kSavedStateFile, ignored)) ||
         StepOfCheckpoint(dir) >= 0;
}

// DIR itself, or those of the run whose folder DIR is.
std::vector<std::string> CheckpointsIn(const std::string& dir) {
  if (IsCheckpoint(dir)) return {dir};
  const std::vector<std::string> checkpoints = ListCheckpoints(dir);
  if (checkpoints.empty()) {
    throw UserError(dir + ": neither a checkpoint nor the folder of a run with checkpoints/step-N");
  }
  return checkpoints;
}

}  // namespace

int VerifyCommand(const CommandLine& command_line) {
  std::string dir = command_line.config_path;
  while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
  return RunWorld(WorldOptions{.num_threads = 1}, [&](World& world) {
    if (world.rank() != 0) return;
    Problems problems;
    for (const std::string& checkpoint : CheckpointsIn(dir)) {
      std::string text;
      try {
        text = Verified(checkpoint) + "\n";
      } catch (const UserError& error) {
        for (const std::string& problem : error.problems()) problems.Add(problem);
      }
      PrintResult(text);
    }
    if (!IsCheckpoint(dir)) {
      for (const std::string& aside : ListSetAside(dir))
        std::printf("%s: set aside, not used\n", aside.c_str());
    }
    problems.ThrowIfAny();
  });
}

}  // namespace unipool
