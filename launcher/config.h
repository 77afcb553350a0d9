// Settings of a run: read from a file in protobuf text format, changed by overrides, checked, and printed in
// full. Everything that is wrong is reported at once, in one UserError.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// Reads `path` and applies overrides "field.path=value" in order. An override replaces what the file says:
//   moe.balance=none                        an enum by its name, in any case
//   data.train=a,b or data.train=["a","b"]  several values of a repeated field
//   train.init_from=                        nothing after "=" empties a text or list; numbers need a value
// A byte order mark is skipped, and ~/ at the beginning of a path stands for $HOME/.
// Throws UserError that names file and line, or the override; the field; what was found; and what would be
// right.
Config LoadConfig(const std::string& path, const std::vector<std::string>& overrides);
Config ParseConfig(const std::string& text, const std::string& name,
                   const std::vector<std::string>& overrides = {});

// Reads any message in text format from a file, without overrides. Throws UserError with the same sentences.
void LoadText(const std::string& path, google::protobuf::Message& message);

// Checks the settings against each other and against the number of ranks, `world_size`. Throws UserError with
// all problems.
void ValidateConfig(const Config& config, int world_size);

// Every field with its value or default, in text format. Parsing it gives the same settings.
std::string ResolvedConfigText(const Config& config);

}  // namespace unipool
