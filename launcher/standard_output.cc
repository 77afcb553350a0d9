#include "launcher/standard_output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace unipool {

void PrintResult(const std::string& text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  throw OutputError(Format("standard output: cannot be written: %s; the result did not arrive",
                           errno != 0 ? std::strerror(errno) : "an earlier write failed"));
}

}  // namespace unipool
