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

// Whether its value is a path; no shell expands ~ behind "=".
bool IsPathFlag(const std::string& name);

// What its value must be, for people: "a whole number".
std::string KindOf(const FlagInfo& flag);

// A flag that is given again replaces what was before, so that a script's flags can be changed behind them.
// For one whose values people mean as a list: what to do instead; else "".
std::string InsteadOfTwoValues(const FlagInfo& flag);

// The values of a flag that takes one of a few words; nothing for the others.
std::vector<std::string> ValuesOf(const FlagInfo& flag);

}  // namespace unipool
