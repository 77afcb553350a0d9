// The entry points of the program: a function for each command, in a file of the command's name. Each returns
// the process's exit code. A mistake of the user leaves a command as UserError, or ends the ranks through
// RunWorld.
//
// To add a command:
//   1. launcher/NAME.cc: NameCommand, and DEFINE_... of its own flags. Other commands refuse these, and
//      `unipool help NAME` lists them.
//   2. Here its declaration; in command_list.cc its entry in Commands().
//   3. tests/launcher/command_line_test.cc: two expected messages list all commands. A test of what it does,
//      and a row in tests/launcher/README.md.
//   4. Rows of launcher/README.md. tools/attack/targets.py, COMMANDS and FLAGS: so the attack tries it.
#pragma once

#include "launcher/command_line.h"

namespace unipool {

int TrainCommand(const CommandLine& command_line);
int EvalCommand(const CommandLine& command_line);
int GenerateCommand(const CommandLine& command_line);
int ServeCommand(const CommandLine& command_line);
int ExportCommand(const CommandLine& command_line);
int ImportCommand(const CommandLine& command_line);
int VerifyCommand(const CommandLine& command_line);
int InfoCommand(const CommandLine& command_line);
int PlanCommand(const CommandLine& command_line);
int CalibrateCommand(const CommandLine& command_line);
int ExpertsCommand(const CommandLine& command_line);
int ShrinkCommand(const CommandLine& command_line);
int GrowCommand(const CommandLine& command_line);
int WatchCommand(const CommandLine& command_line);
int PlotCommand(const CommandLine& command_line);
int CompareCommand(const CommandLine& command_line);
int ReportCommand(const CommandLine& command_line);
int SubmitCommand(const CommandLine& command_line);
int StatusCommand(const CommandLine& command_line);
int LogsCommand(const CommandLine& command_line);
int StopCommand(const CommandLine& command_line);
int CheckNodesCommand(const CommandLine& command_line);
int LedgerCommand(const CommandLine& command_line);
int MetricsCommand(const CommandLine& command_line);
int TokenizeCommand(const CommandLine& command_line);

}  // namespace unipool
