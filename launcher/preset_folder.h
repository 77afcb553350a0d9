// Where the presets are: configs/ of the tree that the program was built in, or of the prefix it is installed
// to.
#pragma once

#include <string>

namespace unipool {

// The folder beside this program; "" where there is none.
std::string PresetFolder();

// The preset that a path which cannot be read may have meant, by its file name, with or without .txtpb:
// "/usr/local/share/unipool/configs/demo.txtpb" for "demo" and "configs/demo.txtpb"; "": none.
std::string FindPreset(const std::string& path);
// The same in a given folder.
std::string FindPreset(const std::string& path, const std::string& folder);

}  // namespace unipool
