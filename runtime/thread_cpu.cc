#include "runtime/thread_cpu.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <charconv>

namespace unipool {
namespace {

// What is not known of one is not known of both.
int64_t Both(int64_t a, int64_t b, int64_t result) {
  return a < 0 || b < 0 ? -1 : result;
}

}  // namespace

ThreadCpu ThreadCpu::Since(const ThreadCpu& earlier) const {
  return {.cpu_ns = Both(cpu_ns, earlier.cpu_ns, cpu_ns - earlier.cpu_ns),
          .queued_ns = Both(queued_ns, earlier.queued_ns, queued_ns - earlier.queued_ns),
          .pushed_off = Both(pushed_off, earlier.pushed_off, pushed_off - earlier.pushed_off)};
}

void ThreadCpu::Add(const ThreadCpu& other) {
  cpu_ns = Both(cpu_ns, other.cpu_ns, cpu_ns + other.cpu_ns);
  queued_ns = Both(queued_ns, other.queued_ns, queued_ns + other.queued_ns);
  pushed_off = Both(pushed_off, other.pushed_off, pushed_off + other.pushed_off);
}

ThreadCpuClock::ThreadCpuClock() : schedstat_(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}

ThreadCpuClock::~ThreadCpuClock() {
  if (schedstat_ >= 0) close(schedstat_);
}

ThreadCpu ThreadCpuClock::Now() const {
  ThreadCpu now;
  timespec cpu{};
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) == 0)
    now.cpu_ns = cpu.tv_sec * int64_t{1'000'000'000} + cpu.tv_nsec;
  rusage usage{};
  if (getrusage(RUSAGE_THREAD, &usage) == 0) now.pushed_off = usage.ru_nivcsw;
  char text[96];  // "ns on a core, ns in the queue, turns"
  const ssize_t bytes = schedstat_ < 0 ? -1 : pread(schedstat_, text, sizeof(text), 0);
  int64_t on_core = 0, queued = 0;
  if (bytes <= 0) return now;
  const auto first = std::from_chars(text, text + bytes, on_core);
  if (first.ec != std::errc() || first.ptr == text + bytes) return now;
  const auto second = std::from_chars(first.ptr + 1, text + bytes, queued);
  if (second.ec == std::errc()) now.queued_ns = queued;
  return now;
}

}  // namespace unipool
