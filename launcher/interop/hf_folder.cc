#include "launcher/interop/hf_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

#include "launcher/checkpoints/saved_state.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLevels = 64;

bool IsThere(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool IsBelow(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

}  // namespace

HfFolder::HfFolder(const std::string& dir) : dir_(dir) {
  while (dir_.size() > 1 && dir_.back() == '/') dir_.pop_back();
  std::error_code ignored;
  if (!fs::is_directory(dir_, ignored))
    throw UserError(dir_ + (IsThere(dir_) ? ": is no folder" : ": no such folder") +
                    "; give one with config.json and safetensors files");
  if (IsThere(fs::path(dir_) / kSavedStateFile) || IsThere(fs::path(dir_) / "checkpoints")) {
    throw UserError(
        dir_ + ": is a run or a checkpoint of this program, which train, eval and generate take as it is");
  }
  if (!Find("config.json")) throw UserError(dir_ + ": holds no config.json, which says what model it is");
  for (const auto& entry : fs::directory_iterator(dir_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".safetensors" || name == kWeightIndexFile) CheckInside(entry.path());
  }
  weights_.emplace(dir_);
  for (const std::string& tensor : weights_->Names()) CheckInside(weights_->FileOf(tensor));
  weights_->OpenAll();
}

// A link that leads to a file in the folder is as good as the file.
void HfFolder::CheckInside(const std::string& path) const {
  std::error_code no_folder, no_path;
  const fs::path folder = fs::canonical(dir_, no_folder);
  const fs::path file = IsThere(path) ? fs::canonical(path, no_path) : fs::weakly_canonical(path, no_path);
  if (!no_folder && !no_path && IsBelow(file, folder)) return;
  throw UserError(path +
                  ": leads out of the folder, and only files in it are read; a copy without links: cp -rL " +
                  dir_ + " COPY");
}

std::optional<std::string> HfFolder::Find(const std::string& name) const {
  const fs::path path = fs::path(dir_) / name;
  if (!IsThere(path)) return std::nullopt;
  CheckInside(path);
  return path.string();
}

nlohmann::json HfFolder::Json(const std::string& name) const {
  using Parsed = nlohmann::json;
  const std::optional<std::string> path = Find(name);
  if (!path) throw UserError(dir_ + ": holds no " + name);
  std::set<std::string> keys;
  std::string twice;
  bool is_deep = false;
  const auto look = [&](int depth, Parsed::parse_event_t event, Parsed& parsed) {
    if (event == Parsed::parse_event_t::key && depth == 1 && !keys.insert(parsed.get<std::string>()).second)
      twice = parsed.get<std::string>();
    is_deep |= depth > kMostLevels;
    return !is_deep;
  };
  const Parsed json = Parsed::parse(ReadTextFile(*path), look, false);
  if (is_deep || !json.is_object()) throw UserError(*path + ": is damaged; expected a JSON object");
  if (!twice.empty()) throw UserError(*path + ": has the key \"" + twice + "\" twice");
  return json;
}

}  // namespace unipool
