// Processor time of the calling thread. It says what a kernel costs even where other programs share the core.
#pragma once

#include <ctime>

namespace unipool {

inline double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace unipool
