#include "launcher/checkpoints/model_folder.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/run_control/run_holder.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr char kConfig[] = "config.txtpb";

bool Has(const fs::path& folder, const char* name) {
  std::error_code ignored;
  return fs::exists(folder / name, ignored);
}

std::vector<fs::path> Listed(const fs::path& folder, std::error_code& error) {
  std::vector<fs::path> paths;
  for (fs::directory_iterator next(folder, error); !error && next != fs::directory_iterator();
       next.increment(error)) {
    paths.push_back(next->path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool HasWeights(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::path& path : Listed(folder, ignored)) {
    if (path.filename().string().ends_with(".safetensors")) return true;
  }
  return false;
}

// The folder of a run, at least in part.
bool IsRun(const fs::path& folder) {
  if (StepOfCheckpoint(folder.string()) >= 0 || Has(folder, kSavedStateFile)) return false;
  if (Has(folder, "checkpoints")) return true;
  return (Has(folder, kConfig) || Has(folder, "state.json")) && !HasWeights(folder);
}

// "A, B and 3 more".
std::string Few(const std::vector<std::string>& names) {
  constexpr size_t kMost = 4;
  std::string text;
  for (size_t i = 0; i < std::min(kMost, names.size()); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() <= kMost ? text : text + Format(" and %d more", names.size() - kMost);
}

ModelFolder Checkpoint(const std::string& folder) {
  const std::string config = (fs::path(folder) / kConfig).string();
  if (Has(folder, kConfig)) return {.config_path = config, .checkpoint = folder};
  if (StepOfCheckpoint(folder) >= 0 || Has(folder, kSavedStateFile)) {
    throw UserError(folder +
                    ": this checkpoint holds no config.txtpb; `unipool verify` tells what else it "
                    "lacks; give the configuration file of its model, and --checkpoint " +
                    folder);
  }
  throw UserError(folder +
                  ": holds weights but no config.txtpb, so it is no checkpoint of this program; "
                  "give the configuration file of its model, and --checkpoint " +
                  folder);
}

[[noreturn]] void Refuse(const std::string& folder) {
  std::vector<std::string> runs, checkpoints;
  std::error_code error, ignored;
  const std::vector<fs::path> paths = Listed(folder, error);
  if (error) throw UserError(folder + ": cannot be listed (" + error.message() + ")");
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path, ignored)) continue;
    if (StepOfCheckpoint(path.string()) >= 0)
      checkpoints.push_back(path.string());
    else if (IsRun(path))
      runs.push_back(path.string());
  }
  std::string what = ": is neither the folder of a run (config.txtpb, checkpoints/step-N) nor a checkpoint";
  if (!checkpoints.empty())
    what =
        ": holds no config.txtpb but checkpoints; name one, or the folder of their run: " + Few(checkpoints);
  else if (!runs.empty())
    what = ": holds runs; name one of them: " + Few(runs);
  else
    what += "; give one of these, or a configuration file (.txtpb)";
  throw UserError(folder + what);
}

}  // namespace

bool IsRunFolder(const std::string& folder) {
  return IsRun(folder);
}

std::string WhyNoCheckpoint(const std::string& run_dir) {
  const std::string what = "no checkpoint in " + run_dir + "/checkpoints: ";
  if (const std::optional<RunHolder> holder = HolderOf(run_dir)) {
    return what + "the run at work there (" + Describe(*holder) +
           ") has saved none yet; wait for its first, or let it save now: touch " + run_dir + "/save";
  }
  return what + "train first, or name a folder with --checkpoint";
}

ModelFolder FindModelFolder(const std::string& given) {
  std::string folder = given;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  const std::string name = fs::path(folder).filename().string();
  if (name.starts_with("step-") && name.ends_with(".partial")) {
    throw UserError(folder +
                    ": is being written, or was left by a run that ended while it wrote; name "
                    "another checkpoint, or the folder of the run for its newest");
  }
  if (IsRun(folder)) {
    const std::string config = (fs::path(folder) / kConfig).string();
    if (Has(folder, kConfig)) return {.config_path = config, .run_dir = folder};
    for (const std::string& checkpoint : ListCheckpoints(folder)) {
      if (Has(checkpoint, kConfig))
        return {.config_path = (fs::path(checkpoint) / kConfig).string(), .run_dir = folder};
    }
    throw UserError(folder + ": holds no config.txtpb yet; " + WhyNoCheckpoint(folder));
  }
  const bool is_checkpoint =
      StepOfCheckpoint(folder) >= 0 || Has(folder, kSavedStateFile) || HasWeights(folder);
  if (is_checkpoint) return Checkpoint(folder);
  Refuse(folder);
}

}  // namespace unipool
