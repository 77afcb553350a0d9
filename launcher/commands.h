// The entry points of the program, one file each. Each returns the process's exit code; problems of the
// user's making leave as UserError or through RunWorld.
#pragma once

#include "launcher/command_line.h"

namespace unipool {

int TrainCommand(const CommandLine& command_line);
int EvalCommand(const CommandLine& command_line);
int GenerateCommand(const CommandLine& command_line);
int InfoCommand(const CommandLine& command_line);

}  // namespace unipool
