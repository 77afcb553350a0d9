#include "launcher/checkpoints/checkpoint_folder.h"

#include <fcntl.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <vector>

#include "launcher/checkpoints/saved_state.h"
#include "launcher/checkpoints/weight_folder.h"
#include "runtime/errors.h"
#include "runtime/tensor_file.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr char kPartial[] = ".partial", kReplaced[] = ".replaced";
constexpr char kAbandoned[] = ".abandoned", kDamaged[] = ".damaged";

std::string WithoutEnd(const std::string& text, const std::string& end) {
  return text.substr(0, text.size() - end.size());
}

fs::path FolderOf(const std::string& run_dir) {
  return fs::path(run_dir) / "checkpoints";
}

// N of the names "step-N" and "step-N.replaced"; -1 of all others. An N too large counts as the largest.
int64_t StepOfName(std::string name) {
  if (name.ends_with(kReplaced)) name = WithoutEnd(name, kReplaced);
  if (name.rfind("step-", 0) != 0 || name.size() == 5) return -1;
  if (name.find_first_not_of("0123456789", 5) != std::string::npos) return -1;
  if (name.size() > 23) return std::numeric_limits<int64_t>::max();
  return std::stoll(name.substr(5));
}

void Check(const std::error_code& error, const char* what, const fs::path& path) {
  if (error) throw UserError(path.string() + ": cannot be " + what + " (" + error.message() + ")");
}

void Rename(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  Check(error, "renamed", from);
}

// Removes a folder that nobody may mistake for a checkpoint while it disappears. What cannot be removed
// stays.
void Discard(const fs::path& folder) {
  std::error_code error;
  fs::path doomed = folder;
  if (!folder.string().ends_with(kPartial)) {
    doomed += kPartial;
    fs::rename(folder, doomed, error);
    if (error) doomed = folder;
  }
  fs::remove_all(doomed, error);
  if (error) PrintErrorLine("warning: " + doomed.string() + ": cannot be removed (" + error.message() + ")");
}

// Names in the folder; none where there is no such folder.
std::vector<fs::path> Listed(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  fs::directory_iterator next(folder, error);
  if (error == std::errc::no_such_file_or_directory) return paths;
  for (; !error && next != fs::directory_iterator(); next.increment(error)) paths.push_back(next->path());
  if (error) {
    throw UserError(folder.string() + ": cannot be listed (" + error.message() +
                    "), so nobody knows which checkpoints there are; nothing was changed");
  }
  return paths;
}

// (step, path), newest first; a whole folder before the one it replaces.
std::vector<std::pair<int64_t, fs::path>> AllCheckpoints(const fs::path& folder) {
  std::vector<std::pair<int64_t, fs::path>> found;
  for (const fs::path& path : Listed(folder)) {
    const int64_t step = StepOfName(path.filename().string());
    if (step >= 0) found.emplace_back(step, path);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  return found;
}

// The first of PATH.replaced-1, PATH.replaced-2, ... that nobody has, with PATH's ending.
fs::path NameAside(const fs::path& path) {
  for (int i = 1;; ++i) {
    fs::path aside = path;
    aside.replace_filename(path.stem().string() + Format(".replaced-%d", i) + path.extension().string());
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(aside, ignored))) return aside;
  }
}

bool IsSound(const fs::path& checkpoint) {
  try {
    return ReadSavedState(checkpoint.string()).is_sound;
  } catch (const std::exception&) {
    return false;
  }
}

void Prune(const fs::path& folder, int64_t newest_step, int keep) {
  if (keep <= 0) return;
  int kept = 0;
  bool has_sound = false;
  for (const auto& [step, path] : AllCheckpoints(folder)) {
    if (step > newest_step) continue;
    const bool is_newest_sound = !has_sound && IsSound(path);
    has_sound |= is_newest_sound;
    if (++kept > keep && !is_newest_sound) Discard(path);
  }
}

// PATH.end, or PATH.end-2, PATH.end-3, ... if somebody has it.
fs::path FreeName(const fs::path& path, const std::string& end) {
  for (int i = 1;; ++i) {
    const fs::path name = path.string() + end + (i == 1 ? "" : Format("-%d", i));
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(name, ignored))) return name;
  }
}

bool IsDamaged(const fs::path& checkpoint) {
  try {
    VerifyFiles(checkpoint.string(), 0, 1);
    return false;
  } catch (const std::exception&) {
    return true;
  }
}

void CheckFiles(const std::string& dir) {
  const int files = ReadSavedState(dir).optimizer_files;
  ReadTextFile((fs::path(dir) / "config.txtpb").string());
  for (int i = 0; i < files; ++i) TensorFileReader(OptimizerFile(dir, i, files));
  WeightFolder(dir).OpenAll();
}

}  // namespace

std::string WhyIncomplete(const std::string& dir) {
  try {
    CheckFiles(dir);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> ListCheckpoints(const std::string& run_dir) {
  std::vector<std::string> paths;
  for (const auto& [step, path] : AllCheckpoints(FolderOf(run_dir))) paths.push_back(path.string());
  return paths;
}

std::vector<std::string> ListSetAside(const std::string& run_dir) {
  std::vector<std::string> paths;
  for (const fs::path& path : Listed(FolderOf(run_dir))) {
    const std::string name = path.filename().string();
    const bool is_aside =
        name.find(kAbandoned) != std::string::npos || name.find(kDamaged) != std::string::npos;
    if (is_aside && name.rfind("step-", 0) == 0) paths.push_back(path.string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

int64_t NewestSoundStep(const std::string& run_dir, int64_t last_step) {
  for (const auto& [step, path] : AllCheckpoints(FolderOf(run_dir))) {
    if (step <= last_step && IsSound(path)) return step;
  }
  return -1;
}

std::string AbandonAfter(const std::string& run_dir, int64_t step) {
  std::string moved;
  for (const auto& [later, path] : AllCheckpoints(FolderOf(run_dir))) {
    if (later <= step) continue;
    const fs::path aside = FreeName(path, kAbandoned);
    Rename(path, aside);
    moved += (moved.empty() ? "" : ", ") + path.filename().string() + " is now " + aside.filename().string();
  }
  if (!moved.empty()) SyncDirectory(FolderOf(run_dir).string());
  return moved;
}

void RemoveUnfinished(const std::string& run_dir) {
  for (const fs::path& path : Listed(FolderOf(run_dir))) {
    const std::string name = path.filename().string();
    if (name.ends_with(kPartial) && StepOfName(WithoutEnd(name, kPartial)) >= 0) Discard(path);
  }
}

std::string SetAside(const std::string& run_dir) {
  std::string moved;
  for (const fs::path& path : {FolderOf(run_dir), fs::path(run_dir) / "metrics.jsonl"}) {
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(path, ignored))) continue;
    const fs::path aside = NameAside(path);
    Rename(path, aside);
    moved += (moved.empty() ? "" : ", ") + path.string() + " is now " + aside.string();
  }
  return moved;
}

std::string CheckpointPath(const std::string& run_dir, int64_t step) {
  return (FolderOf(run_dir) / Format("step-%d", step)).string();
}

int64_t StepOfCheckpoint(const std::string& dir) {
  fs::path path(dir);
  if (path.filename().empty()) path = path.parent_path();  // "step-5/"
  return StepOfName(path.filename().string());
}

std::string BeginCheckpoint(const std::string& run_dir, int64_t step) {
  const fs::path folder = FolderOf(run_dir);
  std::error_code error;
  fs::create_directories(folder, error);
  Check(error, "created", folder);
  RemoveUnfinished(run_dir);
  const fs::path partial = folder / (Format("step-%d", step) + kPartial);
  fs::create_directory(partial, error);
  Check(error, "created", partial);
  return partial.string();
}

std::string CommitCheckpoint(const std::string& partial, int keep) {
  CHECK(partial.ends_with(kPartial)) << partial;
  SyncDirectory(partial);
  const fs::path path = WithoutEnd(partial, kPartial), folder = path.parent_path();
  std::error_code absent;
  const bool is_taken = fs::exists(fs::symlink_status(path, absent));
  if (is_taken && IsDamaged(path)) {
    const fs::path aside = FreeName(path, kDamaged);
    Rename(path, aside);
    Rename(partial, path);
    SyncDirectory(folder.string());
    PrintErrorLine("warning: " + path.string() + ": was damaged, and is now " + aside.string());
  } else if (!is_taken) {
    Rename(partial, path);
    SyncDirectory(folder.string());
  } else if (renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
    SyncDirectory(folder.string());
    Discard(partial);  // holds the former checkpoint now
  } else {
    const fs::path replaced = path.string() + kReplaced;
    std::error_code ignored;
    fs::remove_all(replaced, ignored);
    Rename(path, replaced);
    Rename(partial, path);
    SyncDirectory(folder.string());
    Discard(replaced);
  }
  Prune(folder, StepOfCheckpoint(path.string()), keep);
  return path.string();
}

}  // namespace unipool
