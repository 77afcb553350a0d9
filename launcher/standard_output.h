// The standard output of commands whose result it is.
#pragma once

#include <string>

#include "runtime/errors.h"

namespace unipool {

// What did not arrive. It is this process's matter alone, not one of all ranks.
class OutputError : public UserError {
 public:
  using UserError::UserError;
};

// Writes `text` and sees to it that the system took it. Throws OutputError with the system's reason where
// not: the disk is full, the stream is closed. What only accompanies a run (progress) is printed without it.
void PrintResult(const std::string& text);

}  // namespace unipool
