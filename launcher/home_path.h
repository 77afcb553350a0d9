// Paths that begin with the home folder. A shell expands ~ only at the beginning of a word, so settings and
// flags get it as it stands.
#pragma once

#include <string>

#include "configs/config.pb.h"

namespace unipool {

// "~/x" as "$HOME/x", "~" as $HOME; other texts as they are. Throws UserError where HOME is not set.
std::string ExpandHome(const std::string& path);
// All paths of the settings. A data source may begin with its weight: "0.7 ~/books".
void ExpandHome(Config& config);

}  // namespace unipool
