// unipool COMMAND [CONFIG.txtpb] [field.path=value ...] [--flags]
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

struct CommandLine {
  std::string command;                 // one of Commands(); "help", "version" when these were asked for
  std::vector<std::string> topics;     // of "help": what it is asked about; the first may be ""
  std::string config_path;             // or the folder, for commands that take one; "" when none was given
  std::string run_dir;                 // the run's folder that stood for its config_path; "": none did
  std::vector<std::string> inputs;     // files, for commands that take them; "-" of generate
  std::vector<std::string> stops;      // --stop, as often as it was given
  std::vector<std::string> overrides;  // "field.path=value"
  std::string checkpoint;              // --checkpoint, or the checkpoint that stood for its config_path
  bool json = false;                   // --json: print JSON for programs instead of a text for people
  bool print_config = false;           // --print_config: show the resolved settings and stop
};

// One command of the program. Its flags are those that its own file defines, and `shared_flags`.
struct CommandInfo {
  const char* name;
  // kModel: or the folder of a run or a checkpoint; --checkpoint alone will do, if the command has it.
  // kFolder: one folder in its place. kInputs: files in its place.
  enum class ConfigUse { kNone, kOptional, kRequired, kModel, kFolder, kInputs } config;
  const char* summary;                    // for `help`
  int (*run)(const CommandLine& line);    // returns the exit code (commands.h)
  std::vector<std::string> shared_flags;  // of those that other files define, the ones that it uses
};
const std::vector<CommandInfo>& Commands();

// Sets gflags' flags and sorts the other arguments. Throws UserError with all problems at once: an unknown
// command or flag (with the nearest name), a flag that the command does not use, a bad value, a missing
// configuration, a folder that is none (model_folder.h). The configuration is the first argument after the
// command that is an existing file or folder, ends in .txtpb, or has no "=". For a run's folder config_path
// is the file in it, and run_dir the first override.
CommandLine ParseCommandLine(const std::vector<std::string>& arguments);

// The settings of the command line's file and overrides, with parallel.ranks as it is in this job
// (rank_count.h). Slurm's variables alone are no job to commands that need no world (info, --print_config).
// Prints a note when the file says another number of ranks. Throws UserError.
Config LoadConfig(const CommandLine& command_line);

// Whether this process is the one of its job that prints: rank 0 by MPI's environment, or the only process.
bool IsPrintingProcess();

}  // namespace unipool
