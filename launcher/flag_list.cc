#include "launcher/flag_list.h"

#include <algorithm>

namespace unipool {

std::vector<FlagInfo> UsableFlags() {
  std::vector<FlagInfo> all, usable;
  gflags::GetAllFlags(&all);
  for (FlagInfo& flag : all) {
    if (flag.filename.find("gflags") == std::string::npos) usable.push_back(std::move(flag));
  }
  return usable;
}

bool IsOurs(const FlagInfo& flag) {
  return flag.filename.find("launcher/") != std::string::npos;
}

std::vector<std::string> UsersOf(const FlagInfo& flag) {
  std::vector<std::string> users;
  for (const CommandInfo& command : Commands()) {
    const bool is_own = IsOurs(flag) && flag.filename.ends_with("/" + std::string(command.name) + ".cc");
    const auto& shared = command.shared_flags;
    if (is_own || std::find(shared.begin(), shared.end(), flag.name) != shared.end())
      users.emplace_back(command.name);
  }
  return users;
}

std::vector<FlagInfo> FlagsOf(const CommandInfo& command) {
  std::vector<FlagInfo> flags;
  for (FlagInfo& flag : UsableFlags()) {
    const std::vector<std::string> users = UsersOf(flag);
    if (IsOurs(flag) && std::find(users.begin(), users.end(), command.name) != users.end())
      flags.push_back(std::move(flag));
  }
  std::sort(flags.begin(), flags.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return flags;
}

}  // namespace unipool
