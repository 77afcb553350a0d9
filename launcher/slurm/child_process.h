// Other programs, started without a shell: no character of an argument means anything.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace unipool {

struct ChildOutcome {
  int exit_code = 0;  // 128 + n after signal n
  std::string out, err;
};

// Where a shell would find a program; nothing where PATH has none.
std::optional<std::string> FindProgram(const std::string& name);

// Runs arguments[0], found in PATH, with an empty standard input, and waits for its end. Nothing when it
// cannot be started. A child that takes longer than `limit_seconds` is killed, with exit code 124; 0: no
// limit.
std::optional<ChildOutcome> RunChild(const std::vector<std::string>& arguments, int limit_seconds = 30);

}  // namespace unipool
