// unipool COMMAND [CONFIG.txtpb] [field.path=value ...] [--flags]
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

struct CommandLine {
  std::string command;                 // one of Commands(); "help" when help was asked for
  std::string config_path;             // or the folder, for commands that take one; "" when none was given
  std::vector<std::string> overrides;  // "field.path=value"
  std::string checkpoint;              // --checkpoint: folder of one checkpoint; "": the newest of run_dir
  bool json = false;                   // --json: print JSON for programs instead of a text for people
  bool print_config = false;           // --print_config: show the resolved settings and stop
};

// One command of the program. Its flags are those that its own file defines.
struct CommandInfo {
  const char* name;
  // kFolder: one folder in its place.
  enum class ConfigUse { kNone, kOptional, kRequired, kFolder } config;
  const char* summary;                  // for `help`
  int (*run)(const CommandLine& line);  // returns the exit code (commands.h)
};
const std::vector<CommandInfo>& Commands();

// Sets gflags' flags and sorts the other arguments. Throws UserError with all problems at once: an unknown
// command or flag (with the nearest name), a flag that another command's file defines, a bad value, a missing
// configuration.
CommandLine ParseCommandLine(const std::vector<std::string>& arguments);

std::string HelpText();

// The settings of the command line's file and overrides, with parallel.ranks as it is in this job
// (rank_count.h). Prints a note when the file says another number of ranks. Throws UserError.
Config LoadConfig(const CommandLine& command_line);

// Whether this process is the one of its job that prints: rank 0 by the launcher's environment, or the only
// process.
bool IsPrintingProcess();

}  // namespace unipool
