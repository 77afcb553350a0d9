#include "launcher/checkpoint_folder.h"

#include <fcntl.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "launcher/weight_folder.h"
#include "runtime/errors.h"
#include "runtime/tensor_file.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr char kPartial[] = ".partial", kReplaced[] = ".replaced";

std::string WithoutEnd(const std::string& text, const std::string& end) {
  return text.substr(0, text.size() - end.size());
}

fs::path FolderOf(const std::string& run_dir) {
  return fs::path(run_dir) / "checkpoints";
}

// N of the names "step-N" and "step-N.replaced"; -1 of all others.
int64_t StepOfName(std::string name) {
  if (name.ends_with(kReplaced)) name = WithoutEnd(name, kReplaced);
  if (name.rfind("step-", 0) != 0 || name.size() == 5 || name.size() > 23) return -1;
  if (name.find_first_not_of("0123456789", 5) != std::string::npos) return -1;
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

// (step, path), newest first; a whole folder before the one it replaces.
std::vector<std::pair<int64_t, fs::path>> AllCheckpoints(const fs::path& folder) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const int64_t step = StepOfName(entry.path().filename().string());
    if (step >= 0) found.emplace_back(step, entry.path());
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  return found;
}

void Prune(const fs::path& folder, int64_t newest_step, int keep) {
  if (keep <= 0) return;
  int kept = 0;
  for (const auto& [step, path] : AllCheckpoints(folder)) {
    if (step <= newest_step && ++kept > keep) Discard(path);
  }
}

void CheckFiles(const std::string& dir) {
  const int files = ReadTrainingState(dir).optimizer_files;
  if (!fs::exists(fs::path(dir) / "config.txtpb")) throw UserError(dir + "/config.txtpb: is missing");
  for (int i = 0; i < files; ++i) TensorFileReader(OptimizerFile(dir, i, files));
  WeightFolder(dir).OpenAll();
}

}  // namespace

std::string WhyIncomplete(const std::string& dir) {
  try {
    CheckFiles(dir);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TrainingState ReadTrainingState(const std::string& dir) {
  const std::string path = (fs::path(dir) / "training_state.json").string();
  std::ifstream file(path);
  if (!file) throw UserError(path + ": is missing; " + dir + " is no checkpoint");
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
  if (!json.is_object() || !json.contains("optimizer_files") ||
      !json["optimizer_files"].is_number_integer() || !json.contains("training_state")) {
    throw UserError(path + ": is damaged; use an older checkpoint");
  }
  return {json["optimizer_files"], json["training_state"].dump()};
}

std::string NewestCheckpoint(const std::string& run_dir) {
  for (const auto& [step, path] : AllCheckpoints(FolderOf(run_dir))) {
    const std::string problem = WhyIncomplete(path.string());
    if (problem.empty()) return path.string();
    PrintErrorLine("warning: " + path.string() + ": is no complete checkpoint and is not used: " + problem);
  }
  return "";
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
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().string().ends_with(kPartial)) Discard(entry.path());
  }
  const fs::path partial = folder / (Format("step-%d", step) + kPartial);
  fs::create_directory(partial, error);
  Check(error, "created", partial);
  return partial.string();
}

std::string CommitCheckpoint(const std::string& partial, int keep) {
  CHECK(partial.ends_with(kPartial)) << partial;
  SyncDirectory(partial);
  const fs::path path = WithoutEnd(partial, kPartial), folder = path.parent_path();
  if (!fs::exists(path)) {
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
