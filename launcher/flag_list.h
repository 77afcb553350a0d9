// The flags of the program, and which commands they belong to.
#pragma once

#include <gflags/gflags.h>

#include <string>
#include <vector>

#include "launcher/command_line.h"

namespace unipool {

using FlagInfo = gflags::CommandLineFlagInfo;

// Flags of this program and of glog; gflags' own (--flagfile, --helpxml, ...) end the process in ways of
// their own.
std::vector<FlagInfo> UsableFlags();

// Whether one of the launcher's files defines it; false for glog's.
bool IsOurs(const FlagInfo& flag);

// The commands that use a flag: that of its file, "generate" for launcher/generate.cc, and those that name
// it. Empty for flags of all commands (glog's).
std::vector<std::string> UsersOf(const FlagInfo& flag);

// Those of our flags that a command uses, by name.
std::vector<FlagInfo> FlagsOf(const CommandInfo& command);

}  // namespace unipool
