#include "launcher/preset_folder.h"

#include <filesystem>

namespace unipool {
namespace {

namespace fs = std::filesystem;

bool IsPresetFolder(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / "demo.txtpb", ignored);
}

}  // namespace

std::string PresetFolder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (error) return "";
  for (const char* beside : {UNIPOOL_PRESETS_FROM_PROGRAM, "../configs"}) {  // installed, built
    const fs::path folder = (program / beside).lexically_normal();
    if (IsPresetFolder(folder)) return folder.string();
  }
  return "";
}

std::string FindPreset(const std::string& path) {
  return FindPreset(path, PresetFolder());
}

std::string FindPreset(const std::string& path, const std::string& folder) {
  std::string name = fs::path(path).filename().string();
  if (folder.empty() || name.empty()) return "";
  if (!name.ends_with(".txtpb")) name += ".txtpb";
  const fs::path preset = fs::path(folder) / name;
  std::error_code ignored;
  if (!fs::is_regular_file(preset, ignored)) return "";
  // As people in the tree write it.
  const fs::path near = fs::path("configs") / name;
  return fs::equivalent(near, preset, ignored) ? near.string() : preset.string();
}

}  // namespace unipool
