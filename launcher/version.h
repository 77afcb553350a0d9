// Which program this is.
#pragma once

#include <string>

namespace unipool {

// The commit that it was built from, "16b5b5c0a1d2" or "16b5b5c0a1d2+" with changes; "unknown" outside of
// git.
std::string ProgramVersion();

// For `unipool --version`, one fact a line: number, commit, compiler, MPI, CUDA.
std::string VersionText();

}  // namespace unipool
