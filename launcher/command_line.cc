#include "launcher/command_line.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "launcher/checkpoints/model_folder.h"
#include "launcher/config.h"
#include "launcher/config_text.h"
#include "launcher/flag_list.h"
#include "launcher/home_path.h"
#include "launcher/nearest_name.h"
#include "launcher/plan/placement_gain.h"
#include "launcher/rank_count.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

DEFINE_bool(json, false, "print JSON for programs instead of a text for people");
DEFINE_bool(print_config, false, "show the resolved settings and stop");
DEFINE_string(checkpoint, "", "folder of the checkpoint to use; default: the newest of run_dir");

namespace unipool {
namespace {

using ConfigUse = CommandInfo::ConfigUse;
bool IsFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

bool SetsField(const std::string& argument) {
  std::string first = argument.substr(0, argument.find_first_of(".="));
  std::erase(first, ' ');
  return Config::descriptor()->FindFieldByName(first) != nullptr;
}

// A file may bear any name, with "=" in it too.
bool IsConfigPath(const std::string& argument) {
  if (argument.find('=') == std::string::npos || IsFile(argument)) return true;
  return (argument.ends_with(".txtpb") || IsFolder(argument)) && !SetsField(argument);
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : arguments_(arguments), flags_(UsableFlags()) {}

  CommandLine Run() {
    if (arguments_.empty()) return Help("");
    while (next_ < arguments_.size()) {
      const std::string& argument = arguments_[next_++];
      if (argument == "-h" || argument == "--help" || argument == "-help") {
        return Help(IsCommand(line_.command) ? line_.command : "");
      }
      const bool is_v = argument == "-v" && arguments_.size() == 1;  // glog's flag has a value
      if (argument == "--version" || argument == "-version" || argument == "-V" || is_v) return Version();
      if (argument.size() > 1 && argument[0] == '-') {
        Flag(argument);
      } else {
        Positional(argument);
      }
    }
    if (line_.command == "version") return Version();
    if (line_.command == "help") {
      const bool asks_for_words = !line_.topics.empty() && line_.topics[0] == "words";  // for completion
      if (line_.topics.size() > 1 && !asks_for_words)
        problems_.Add("help: takes one command or setting at a time, found " + JoinNames(line_.topics));
      problems_.ThrowIfAny();
      return line_;
    }
    CheckCommand();
    problems_.ThrowIfAny();
    line_.json = FLAGS_json;
    line_.print_config = FLAGS_print_config;
    line_.checkpoint = FLAGS_checkpoint;
    if (Takes(ConfigUse::kModel)) LookIntoFolders();
    return line_;
  }

 private:
  static CommandLine Help(const std::string& topic) {
    CommandLine line;
    line.command = "help";
    line.topics = {topic};
    return line;
  }

  static bool IsCommand(const std::string& name) {
    for (const CommandInfo& command : Commands()) {
      if (command.name == name) return true;
    }
    return false;
  }

  static CommandLine Version() {
    CommandLine line;
    line.command = "version";
    return line;
  }

  // Puts what is in it in place of a folder.
  void LookIntoFolders() {
    std::vector<std::string>& overrides = line_.overrides;
    if (IsFolder(line_.config_path)) {
      const ModelFolder found = FindModelFolder(line_.config_path);
      line_.config_path = found.config_path;
      line_.run_dir = found.run_dir;
      if (!found.run_dir.empty()) overrides.insert(overrides.begin(), "run_dir=\"" + found.run_dir + "\"");
      if (line_.checkpoint.empty()) line_.checkpoint = found.checkpoint;
    }
    const bool has_config = !line_.config_path.empty();
    if (line_.checkpoint.empty()) return;
    if (!IsFolder(line_.checkpoint)) {
      if (has_config) return;  // told when it is to be read
      throw UserError("--checkpoint " + line_.checkpoint + ": no such folder");
    }
    if (has_config && !IsRunFolder(line_.checkpoint)) return;
    const ModelFolder found = FindModelFolder(line_.checkpoint);
    if (!has_config) line_.config_path = found.config_path;
    line_.run_dir = found.run_dir;
    line_.checkpoint = found.checkpoint;
    if (!found.run_dir.empty()) overrides.push_back("run_dir=\"" + found.run_dir + "\"");
  }

  void Positional(const std::string& argument) {
    if (line_.command.empty()) {
      line_.command = argument;
    } else if (line_.command == "help") {
      line_.topics.push_back(argument);
    } else if (Takes(ConfigUse::kInputs)) {
      line_.inputs.push_back(ExpandHome(argument));
    } else if (argument == "-" && line_.command == "generate") {
      line_.inputs.push_back(argument);
    } else if (line_.config_path.empty() && (Takes(ConfigUse::kFolder) || IsConfigPath(argument))) {
      line_.config_path = ExpandHome(argument);
    } else if (argument.find('=') != std::string::npos && !Takes(ConfigUse::kFolder)) {
      line_.overrides.push_back(argument);
    } else {
      Unwanted(argument);
    }
  }

  // A word too many.
  void Unwanted(const std::string& argument) {
    if (Takes(ConfigUse::kFolder))
      return problems_.Add(argument + ": " + line_.command + " takes one folder, and has " +
                           line_.config_path);
    const std::vector<std::string> settings = LeafPaths(*Config::descriptor());
    if (std::find(settings.begin(), settings.end(), argument) != settings.end()) {
      const bool has_value = next_ < arguments_.size() && arguments_[next_][0] != '-';
      const std::string value = has_value ? arguments_[next_++] : "VALUE";
      return problems_.Add(argument + ": a setting and its value are one word: " + argument + "=" + value);
    }
    std::string meant;
    if (line_.command == "generate") meant = "; did you mean --prompt \"" + argument + "\"?";
    if (line_.command == "eval") meant = "; did you mean data.valid=" + argument + "?";
    problems_.Add(argument + ": a second configuration file (after " + line_.config_path +
                  "); settings are changed with field.path=value" + meant);
  }

  bool Takes(ConfigUse use) const {
    for (const CommandInfo& command : Commands()) {
      if (command.name == line_.command) return command.config == use;
    }
    return false;
  }

  const FlagInfo* Find(const std::string& name) const {
    for (const FlagInfo& flag : flags_) {
      if (flag.name == name) return &flag;
    }
    return nullptr;
  }

  void Flag(const std::string& argument) {
    const size_t begin = argument.find_first_not_of('-');
    const size_t equals = argument.find('=');
    if (begin == std::string::npos || begin > 2 || equals == begin) {
      return problems_.Add(argument + ": is no flag; flags look like --name=value");
    }
    std::string name = argument.substr(begin, equals - begin);
    const FlagInfo* flag = Find(name);
    bool negated = false;
    if (!flag && name.rfind("no", 0) == 0 && Find(name.substr(2)) && Find(name.substr(2))->type == "bool") {
      name = name.substr(2);
      flag = Find(name);
      negated = true;
    }
    if (!flag) {
      if (equals == std::string::npos) SkipValue();
      return problems_.Add(argument.substr(0, equals) + ": unknown flag" + Nearest(name));
    }
    if (equals != std::string::npos) return Set(*flag, argument.substr(equals + 1));
    if (flag->type == "bool") return Set(*flag, negated ? "false" : "true");
    if (next_ == arguments_.size()) return problems_.Add("--" + name + ": its value is missing");
    Set(*flag, arguments_[next_++]);
  }

  // What follows an unknown flag is its value, unless it can be told to be something else.
  void SkipValue() {
    if (next_ == arguments_.size()) return;
    const std::string& value = arguments_[next_];
    std::error_code ignored;
    const bool is_else = value.empty() || value[0] == '-' || value.find('=') != std::string::npos ||
                         value.ends_with(".txtpb") || std::filesystem::exists(ExpandHome(value), ignored) ||
                         (line_.command.empty() && IsCommand(value));
    if (!is_else) ++next_;
  }

  // Flags and settings that look like the unknown flag `name`, or end in it as in a word of their own.
  std::string Nearest(const std::string& name) const {
    std::vector<std::string> names, meant;
    for (const FlagInfo& flag : flags_) {
      if (!IsOurs(flag)) continue;
      names.push_back("--" + flag.name);
      if (flag.name.ends_with("_" + name)) meant.push_back(names.back());
    }
    for (const std::string& path : LeafPaths(*Config::descriptor())) {
      if (path == name || path.ends_with("." + name)) meant.push_back(path + "=VALUE");
    }
    if (meant.empty()) {
      const std::string suggestion = DidYouMean("--" + name, names);
      return suggestion.empty() ? "; see `unipool help`" : suggestion;
    }
    return "; did you mean " + JoinNames(meant) + "?";
  }

  void Set(const FlagInfo& flag, const std::string& given) {
    const std::string value = IsPathFlag(flag.name) ? ExpandHome(given) : given;
    if (gflags::SetCommandLineOption(flag.name.c_str(), value.c_str()).empty()) {
      problems_.Add("--" + flag.name + ": expected " + KindOf(flag) + ", found \"" + value + "\"");
    }
    if (flag.name == "stop") line_.stops.push_back(value);
    RefuseTwoValues(flag, value);
    set_flags_.push_back(&flag);
  }

  // Where people mean a list nothing may get lost.
  void RefuseTwoValues(const FlagInfo& flag, const std::string& value) {
    const std::string remedy = InsteadOfTwoValues(flag);
    const auto [before, is_first] = values_.try_emplace(flag.name, value);
    if (is_first || before->second == value || remedy.empty()) return;
    problems_.Add("--" + flag.name + ": is given twice, as \"" + before->second + "\" and \"" + value +
                  "\"; " + remedy);
  }

  void CheckCommand() {
    std::vector<std::string> names;
    for (const CommandInfo& command : Commands()) names.emplace_back(command.name);
    if (line_.command.empty()) return problems_.Add("a command is missing; one of " + JoinNames(names));
    for (const CommandInfo& command : Commands()) {
      if (command.name == line_.command) return CheckConfigUse(command);
    }
    const std::string nearest = DidYouMean(line_.command, names);
    problems_.Add(line_.command + ": unknown command" +
                  (nearest.empty() ? "; one of " + JoinNames(names) : nearest));
  }

  void CheckConfigUse(const CommandInfo& command) {
    for (const FlagInfo* flag : set_flags_) {
      const std::vector<std::string> users = UsersOf(*flag);
      if (users.empty() || std::find(users.begin(), users.end(), command.name) != users.end()) continue;
      problems_.Add("--" + flag->name + ": is a flag of " + JoinNames(users) + ", not of " + command.name);
    }
    if (command.config == ConfigUse::kNone && !(line_.config_path.empty() && line_.overrides.empty())) {
      const std::string& extra = line_.config_path.empty() ? line_.overrides[0] : line_.config_path;
      problems_.Add(extra + ": " + command.name + " takes flags only; see `unipool help`");
    }
    if (command.config == ConfigUse::kFolder) {
      if (line_.config_path.empty()) {
        problems_.Add(std::string(command.name) + ": a folder is missing, for example: unipool " +
                      command.name + " runs/demo");
      }
      return;
    }
    if (command.config == ConfigUse::kInputs) return;
    if (command.config == ConfigUse::kNone || !line_.config_path.empty()) return;
    if (command.config == ConfigUse::kModel) {
      if (!FLAGS_checkpoint.empty()) return;
      return problems_.Add(std::string(command.name) +
                           ": the configuration file is missing, or the folder of a run or checkpoint, for "
                           "example: unipool " +
                           command.name + " runs/demo");
    }
    if (command.config == ConfigUse::kRequired || !line_.overrides.empty() || FLAGS_print_config) {
      problems_.Add(std::string(command.name) + ": the configuration file is missing, for example: unipool " +
                    command.name + " configs/demo.txtpb");
    }
  }

  const std::vector<std::string>& arguments_;
  std::vector<FlagInfo> flags_;
  size_t next_ = 0;
  CommandLine line_;
  std::vector<const FlagInfo*> set_flags_;
  std::map<std::string, std::string> values_;  // of flags, as first given
  Problems problems_;
};

}  // namespace

CommandLine ParseCommandLine(const std::vector<std::string>& arguments) {
  return Parser(arguments).Run();
}

Config LoadConfig(const CommandLine& command_line) {
  const std::vector<std::string> overrides = SpellOutAuto(command_line.overrides);
  Config config = LoadConfig(command_line.config_path, overrides);
  const bool needs_world = command_line.command != "info" && !command_line.print_config;
  const bool is_launched = UnderMpiLauncher() && (needs_world || JoinsMpi());
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const std::string note =
      is_launched ? TakeLaunchedRanks(WorldSize({}), overrides, config) : TakeAllCores(cores, config);
  const std::string shadows = TakeShadows(config.parallel().ranks(), config);
  for (const std::string& text : {note, shadows}) {
    if (!text.empty() && IsPrintingProcess()) PrintErrorLine("note: " + text);
  }
  return config;
}

bool IsPrintingProcess() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (const char* rank = std::getenv(variable)) return std::atoi(rank) == 0;
  }
  return true;  // Slurm's variables alone tell of no job: a shell of a step has them too
}

}  // namespace unipool
