#include "launcher/command_line.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/home_path.h"
#include "launcher/nearest_name.h"
#include "launcher/rank_count.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

DEFINE_bool(json, false,
            "print JSON for programs instead of a text for people (info, eval, generate, metrics)");
DEFINE_bool(print_config, false, "show the resolved settings and stop");
DEFINE_string(checkpoint, "",
              "folder of the checkpoint to use; default: the newest of run_dir (eval, generate)");

namespace unipool {
namespace {

using ConfigUse = CommandInfo::ConfigUse;
using FlagInfo = gflags::CommandLineFlagInfo;

// Flags of this program and of glog; gflags' own (--flagfile, --helpxml, ...) end the process in ways of
// their own.
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

// The commands that use a flag: that of its file, "generate" for launcher/generate.cc, and those that name
// it. Empty for flags of all commands (glog's).
std::vector<std::string> UsersOf(const FlagInfo& flag) {
  std::vector<std::string> users;
  for (const CommandInfo& command : Commands()) {
    const bool is_own = flag.filename.ends_with(std::string("launcher/") + command.name + ".cc");
    const auto& shared = command.shared_flags;
    if (is_own || std::find(shared.begin(), shared.end(), flag.name) != shared.end())
      users.emplace_back(command.name);
  }
  return users;
}

// Flags whose value is a path; no shell expands ~ behind "=".
bool IsPathFlag(const std::string& name) {
  for (const char* path : {"checkpoint", "vocab", "merges", "input", "output_prefix"}) {
    if (name == path) return true;
  }
  return false;
}

bool IsFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

bool SetsField(const std::string& argument) {
  std::string first = argument.substr(0, argument.find_first_of(".="));
  std::erase(first, ' ');
  return Config::descriptor()->FindFieldByName(first) != nullptr;
}

// A file may bear any name, with "=" in it too.
bool IsConfigPath(const std::string& argument) {
  if (argument.find('=') == std::string::npos || IsFile(argument)) return true;
  return argument.ends_with(".txtpb") && !SetsField(argument);
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : arguments_(arguments), flags_(UsableFlags()) {}

  CommandLine Run() {
    while (next_ < arguments_.size()) {
      const std::string& argument = arguments_[next_++];
      if (argument == "-h" || argument == "--help" || argument == "-help") return Help();
      const bool is_v = argument == "-v" && arguments_.size() == 1;  // glog's flag has a value
      if (argument == "--version" || argument == "-version" || argument == "-V" || is_v) return Version();
      if (argument.size() > 1 && argument[0] == '-') {
        Flag(argument);
      } else {
        Positional(argument);
      }
    }
    if (line_.command == "help") return Help();
    if (line_.command == "version") return Version();
    CheckCommand();
    problems_.ThrowIfAny();
    line_.json = FLAGS_json;
    line_.print_config = FLAGS_print_config;
    line_.checkpoint = FLAGS_checkpoint;
    return line_;
  }

 private:
  static CommandLine Help() {
    CommandLine line;
    line.command = "help";
    return line;
  }

  static CommandLine Version() {
    CommandLine line;
    line.command = "version";
    return line;
  }

  void Positional(const std::string& argument) {
    if (line_.command.empty()) {
      line_.command = argument;
    } else if (Takes(ConfigUse::kInputs)) {
      line_.inputs.push_back(ExpandHome(argument));
    } else if (line_.config_path.empty() && (Takes(ConfigUse::kFolder) || IsConfigPath(argument))) {
      line_.config_path = ExpandHome(argument);
    } else if (argument.find('=') != std::string::npos && !Takes(ConfigUse::kFolder)) {
      line_.overrides.push_back(argument);
    } else {
      problems_.Add(argument + ": a second configuration file (after " + line_.config_path +
                    "); settings are changed with field.path=value");
    }
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
    if (!flag) return problems_.Add(argument.substr(0, equals) + ": unknown flag" + Nearest(name));
    if (equals != std::string::npos) return Set(*flag, argument.substr(equals + 1));
    if (flag->type == "bool") return Set(*flag, negated ? "false" : "true");
    if (next_ == arguments_.size()) return problems_.Add("--" + name + ": its value is missing");
    Set(*flag, arguments_[next_++]);
  }

  std::string Nearest(const std::string& name) const {
    std::vector<std::string> names;
    for (const FlagInfo& flag : flags_) {
      if (IsOurs(flag)) names.push_back("--" + flag.name);
    }
    const std::string suggestion = DidYouMean("--" + name, names);
    return suggestion.empty() ? "; see `unipool help`" : suggestion;
  }

  void Set(const FlagInfo& flag, const std::string& given) {
    const std::string value = IsPathFlag(flag.name) ? ExpandHome(given) : given;
    if (gflags::SetCommandLineOption(flag.name.c_str(), value.c_str()).empty()) {
      problems_.Add("--" + flag.name + ": expected " +
                    (flag.type == "string" ? "a text" : "a value of type " + flag.type) + ", found \"" +
                    value + "\"");
    }
    set_flags_.push_back(&flag);
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
    const bool needs_config =
        command.config == ConfigUse::kRequired || !line_.overrides.empty() || FLAGS_print_config;
    const bool is_in_checkpoint =
        command.config == ConfigUse::kOptional && !FLAGS_checkpoint.empty() && !FLAGS_print_config;
    if (command.config != ConfigUse::kNone && needs_config && !is_in_checkpoint &&
        line_.config_path.empty()) {
      problems_.Add(std::string(command.name) + ": the configuration file is missing, for example: unipool " +
                    command.name + " configs/demo.txtpb");
    }
  }

  const std::vector<std::string>& arguments_;
  std::vector<FlagInfo> flags_;
  size_t next_ = 0;
  CommandLine line_;
  std::vector<const FlagInfo*> set_flags_;
  Problems problems_;
};

}  // namespace

const std::vector<CommandInfo>& Commands() {
  static const std::vector<CommandInfo> commands = {
      {"train",
       ConfigUse::kRequired,
       "train a model; continues from the newest checkpoint of its run_dir",
       TrainCommand,
       {"print_config"}},
      {"eval",
       ConfigUse::kRequired,
       "loss and perplexity of a checkpoint on a split",
       EvalCommand,
       {"print_config", "json", "checkpoint"}},
      {"generate",
       ConfigUse::kOptional,
       "continue a --prompt with text from a checkpoint",
       GenerateCommand,
       {"print_config", "json", "checkpoint", "tokenizer", "vocab", "merges"}},
      {"verify",
       ConfigUse::kFolder,
       "whether checkpoints in a DIR (of a run, or one of its own) are as saved",
       VerifyCommand,
       {}},
      {"info",
       ConfigUse::kRequired,
       "parameters by kind, per rank, and memory",
       InfoCommand,
       {"print_config", "json"}},
      {"metrics", ConfigUse::kNone, "what the numbers of metrics.jsonl mean", MetricsCommand, {"json"}},
      {"tokenize",
       ConfigUse::kInputs,
       "turn JSON lines (files, or - for the standard input) into a token file (.bin, .idx)",
       TokenizeCommand,
       {"tokenizer", "vocab", "merges"}},
  };
  return commands;
}

CommandLine ParseCommandLine(const std::vector<std::string>& arguments) {
  return Parser(arguments).Run();
}

std::string HelpText() {
  std::string text =
      "unipool COMMAND [CONFIG.txtpb] [field.path=value ...] [--flags]\n"
      "\nCommands\n";
  for (const CommandInfo& command : Commands()) text += Format("  %-16s %s\n", command.name, command.summary);
  text += "\nFlags\n";
  for (const FlagInfo& flag : UsableFlags()) {
    if (!IsOurs(flag)) continue;
    const bool is_text = flag.type == "string";
    const std::string value =
        is_text && flag.default_value.empty() ? "" : " (default: " + flag.default_value + ")";
    text += Format("  --%-14s %s%s\n", flag.name.c_str(), flag.description.c_str(), value.c_str());
  }
  text +=
      "\nFields of a configuration file are described in configs/config.proto. Several ranks: "
      "parallel.ranks=4 in one\n"
      "process, or mpirun -np 4 unipool ...\n"
      "Lists are separated by commas. A path with a comma: data.train='\"my, book.txt\"' or my\\, book.txt\n"
      "\nExit codes\n"
      "  0    all steps are done, or the answer was given\n"
      "  2    wrong input: mend it first\n"
      "  3    stuck: a rank gave no sign of life\n"
      "  75   stopped early on request (a signal, RUN_DIR/stop, train.stop_at), a checkpoint is saved: "
      "repeat the "
      "command\n"
      "  76   a checkpoint or metrics could not be written: make room first\n"
      "\nExamples\n"
      "  unipool train configs/demo.txtpb data.train=book.txt train.steps=200\n"
      "  unipool info configs/unipool_182m.txtpb parallel.ranks=8\n";
  return text;
}

Config LoadConfig(const CommandLine& command_line) {
  Config config = LoadConfig(command_line.config_path, command_line.overrides);
  const bool needs_world = command_line.command != "info" && !command_line.print_config;
  if (!UnderMpiLauncher() || (!needs_world && !JoinsMpi())) return config;
  const std::string note = TakeLaunchedRanks(WorldSize({}), command_line.overrides, config);
  if (!note.empty() && IsPrintingProcess()) PrintErrorLine("note: " + note);
  return config;
}

bool IsPrintingProcess() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (const char* rank = std::getenv(variable)) return std::atoi(rank) == 0;
  }
  return true;  // Slurm's variables alone tell of no job: a shell of a step has them too
}

}  // namespace unipool
