#include "launcher/traffic/traffic_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

bool IsRecord(const std::string& name) {
  return name == "manifest.json" || name.rfind("rank-", 0) == 0 || name.rfind("window-", 0) == 0;
}

}  // namespace

TrafficFolder::TrafficFolder(const std::string& run_dir) : path_((fs::path(run_dir) / "traffic").string()) {}

std::string TrafficFolder::Prepare() const {
  try {
    fs::create_directories(path_);
    std::vector<fs::path> old;
    for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
      if (IsRecord(entry.path().filename().string())) old.push_back(entry.path());
    }
    if (old.empty()) return "";
    fs::path before;
    for (int n = 1; before.empty() || fs::exists(before); ++n) {
      before = fs::path(path_) / ("before-" + std::to_string(n));
    }
    fs::create_directory(before);
    for (const fs::path& path : old) fs::rename(path, before / path.filename());
  } catch (const fs::filesystem_error& error) {
    return path_ + ": " + error.code().message();
  }
  return "";
}

std::string TrafficFolder::Write(const std::string& name, const std::string& text) const {
  const fs::path path = fs::path(path_) / name;
  const fs::path unfinished = path.string() + ".unfinished";
  try {
    WriteTextFile(unfinished.string(), text);
    fs::rename(unfinished, path);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove(unfinished, ignored);
    return error.what();
  }
  return "";
}

int64_t TrafficFolder::TakeTrigger(int64_t default_steps) const {
  const std::string trigger = path_ + "/record";
  struct stat info {};
  if (lstat(trigger.c_str(), &info) != 0) return 0;
  int64_t steps = default_steps;
  if (S_ISREG(info.st_mode) && info.st_size > 0 && info.st_size < 64) {
    try {
      const int64_t number = std::strtoll(ReadTextFile(trigger).c_str(), nullptr, 10);
      if (number > 0) steps = number;
    } catch (const UserError&) {
      // It cannot be read: the default.
    }
  }
  std::error_code ignored;
  if (!fs::remove(trigger, ignored)) return 0;  // a folder, or one that cannot go: it must not ask each step
  return std::min(steps, kMostSteps);
}

}  // namespace unipool
