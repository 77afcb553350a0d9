// What `unipool help` says. Flags, settings and commands come from the program's own lists.
#pragma once

#include <string>
#include <vector>

#include "launcher/command_line.h"

namespace unipool {

// topic: "" for all commands in short; a command; a setting or a block of settings ("train.lr", "moe").
// Lines have at most 80 columns where words allow it. Throws UserError about a topic that is none.
std::string HelpText(const std::string& topic);

// What may follow `unipool` (command ""), or `unipool COMMAND`: commands, flags, settings "train.lr=", values
// of enums "moe.router=NORM". tools/completion.bash asks for it.
std::vector<std::string> CompletionWords(const std::string& command);

}  // namespace unipool
