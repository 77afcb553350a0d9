// unipool COMMAND [CONFIG.txtpb] [field.path=value ...] [--flags]
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

struct CommandLine {
  std::string command;                 // one of Commands(); "help" when help was asked for
  std::string config_path;             // "" when none was given (only where the command allows it)
  std::vector<std::string> overrides;  // "field.path=value"
  std::string checkpoint;              // --checkpoint: folder of one checkpoint; "": the newest of run_dir
  bool json = false;                   // --json: print one JSON line instead of a text for people
  bool print_config = false;           // --print_config: show the resolved settings and stop
};

struct CommandInfo {
  const char* name;
  enum class ConfigUse { kNone, kOptional, kRequired } config;
  const char* summary;
};
const std::vector<CommandInfo>& Commands();

// Sets gflags' flags and sorts the other arguments. A flag that is defined in the file of another command is
// refused. Throws UserError with all problems: unknown command or flag (with the nearest name), bad value,
// missing config.
CommandLine ParseCommandLine(const std::vector<std::string>& arguments);

std::string HelpText();

// The settings of the command line's config and overrides. Throws UserError (LoadConfig).
Config LoadConfig(const CommandLine& command_line);

// Whether this process is the one of its job that prints: rank 0 by the launcher's environment, or no
// launcher.
bool IsPrintingProcess();

}  // namespace unipool
