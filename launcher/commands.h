// The entry points of the program: a function for each command, in a file of the command's name. Each returns
// the process's exit code. A mistake of the user leaves a command as UserError, or ends the ranks through
// RunWorld.
#pragma once

#include "launcher/command_line.h"

namespace unipool {

int TrainCommand(const CommandLine& command_line);
int EvalCommand(const CommandLine& command_line);
int GenerateCommand(const CommandLine& command_line);
int InfoCommand(const CommandLine& command_line);
int MetricsCommand(const CommandLine& command_line);
int TokenizeCommand(const CommandLine& command_line);

}  // namespace unipool
