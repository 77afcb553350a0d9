#include "launcher/traffic/traffic_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/format.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

bool IsRecord(const std::string& name) {
  return name == "manifest.json" || name.rfind("rank-", 0) == 0 || name.rfind("window-", 0) == 0;
}

Trigger NotTaken(const std::string& found, int64_t steps) {
  return {.steps = steps,
          .problem = Format("expected a number of steps, 1 to %d, and found %s; %d %s recorded",
                            Trigger::kMostSteps, found, steps, steps == 1 ? "step is" : "steps are")};
}

Trigger TriggerOf(const std::string& text, int64_t default_steps) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return {.steps = default_steps, .problem = ""};
  const std::string word = text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
  const bool is_number = word.find_first_not_of("0123456789") == word.npos;
  if (!is_number) return NotTaken("\"" + word + "\"", default_steps);
  const int64_t number = std::strtoll(word.c_str(), nullptr, 10);
  if (number == 0) return NotTaken(word, default_steps);
  if (number > Trigger::kMostSteps) return NotTaken(word, Trigger::kMostSteps);
  return {.steps = number, .problem = ""};
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

void TrafficFolder::WriteOver(const std::string& name, const std::string& after,
                              const std::string& text) const {
  std::fstream file(fs::path(path_) / name, std::ios::in | std::ios::out | std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  const size_t found = all.find(after);
  if (found == all.npos || found + after.size() + text.size() > all.size()) return;
  file.clear();
  file.seekp(static_cast<std::streamoff>(found + after.size()));
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
}

Trigger TrafficFolder::TakeTrigger(int64_t default_steps) const {
  const std::string trigger = path_ + "/record";
  struct stat info {};
  if (lstat(trigger.c_str(), &info) != 0) return {};
  Trigger taken{.steps = std::min(default_steps, Trigger::kMostSteps), .problem = ""};
  try {
    if (S_ISREG(info.st_mode)) {
      taken = info.st_size < 64 ? TriggerOf(ReadTextFile(trigger), taken.steps)
                                : NotTaken(Format("%d bytes", info.st_size), taken.steps);
    }
  } catch (const UserError& error) {
    taken.problem = error.what();
  }
  std::error_code ignored;
  if (!fs::remove(trigger, ignored)) return {};  // a folder, or one that cannot go: it must not ask each step
  if (!taken.problem.empty()) taken.problem = trigger + ": " + taken.problem;
  return taken;
}

}  // namespace unipool
