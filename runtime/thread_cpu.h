// How long a thread had a core: what its wall time holds beyond that is time without one.
#pragma once

#include <cstdint>

namespace unipool {

// Sums since the thread began. -1: the system does not say.
struct ThreadCpu {
  int64_t cpu_ns = -1;      // on a core
  int64_t queued_ns = -1;   // could have run, but others had its cores
  int64_t pushed_off = -1;  // times that it lost a core to others without wanting to

  ThreadCpu Since(const ThreadCpu& earlier) const;
  void Add(const ThreadCpu& other);
};

// Looks at the thread that made it; three calls of the system, no lock and no allocation.
class ThreadCpuClock {
 public:
  ThreadCpuClock();
  ~ThreadCpuClock();
  ThreadCpuClock(const ThreadCpuClock&) = delete;

  // REQUIRES: called by the thread that made it.
  ThreadCpu Now() const;

 private:
  int schedstat_ = -1;  // of the thread, open; -1: the kernel has none
};

}  // namespace unipool
