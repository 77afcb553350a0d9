#include "launcher/flag_list.h"

#include <algorithm>
#include <map>

#include "launcher/reports/metric_list.h"

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

bool IsPathFlag(const std::string& name) {
  for (const char* path :
       {"checkpoint", "vocab", "merges", "input", "output_prefix", "prompt_file", "svg", "setup", "template",
        "site", "out", "logits", "donor", "task_data", "log_samples"}) {
    if (name == path) return true;
  }
  return false;
}

std::string KindOf(const FlagInfo& flag) {
  if (flag.type == "string") return "a text";
  if (flag.type == "bool") return "true or false";
  if (flag.type == "double") return "a number";
  return flag.type.starts_with("u") ? "a whole number, not negative" : "a whole number";
}

std::string InsteadOfTwoValues(const FlagInfo& flag) {
  static const std::map<std::string, std::string> remedies = {
      {"prompt", "several prompts come from --prompt_file FILE"},
      {"prompt_file", "put all prompts into one file"},
      {"input", "separate several files by commas"},
      {"metric", "draw one after the other"},
      {"compare", "compare with one after the other"},
  };
  const auto found = remedies.find(flag.name);
  return found == remedies.end() ? "" : found->second;
}

std::vector<std::string> ValuesOf(const FlagInfo& flag) {
  static const std::map<std::string, std::vector<std::string>> values = {
      {"split", {"train", "valid", "test"}},
      {"dtype", {"fp32", "bf16"}},
      {"visible", {"own", "all"}},
      {"x", {"step", "tokens"}},
      {"by", {"rank", "node"}},
      {"lane", {"forward", "backward"}},
      {"tokenizer", {"gpt2", "bytes"}},
      {"launcher", {"auto", "srun", "mpirun"}},
      {"chain", {"requeue", "dependency", "none"}},
  };
  if (flag.name == "metric") {
    std::vector<std::string> names;
    for (const auto& metric : StepMetrics()) names.emplace_back(metric.name);
    for (const auto& metric : ValidationMetrics()) names.emplace_back(metric.name);
    for (const char* other :
         {"step", "peak_memory", "valid_loss_by_source", "task_acc", "task_acc_norm", "task_perplexity"})
      std::erase(names, other);
    return names;  // those that are one number
  }
  const auto found = values.find(flag.name);
  return found == values.end() ? std::vector<std::string>() : found->second;
}

}  // namespace unipool
