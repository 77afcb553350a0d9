// The ranks of a job of threads: how they wait, wake each other, and end the process.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/watchdog.h"

namespace unipool {

// One rank of the job, whatever the communicators it belongs to.
struct RankThread {
  explicit RankThread(int rank) : rank(rank) {}

  // Others ring when something has happened that this rank may be waiting for.
  void Ring() {
    events.fetch_add(1);
    if (!asleep.load()) return;
    std::lock_guard lock(mutex);
    wake.notify_one();
  }
  // Sleeps unless something has happened since `events` was read as `seen`.
  void Sleep(uint64_t seen, std::chrono::milliseconds longest) {
    std::unique_lock lock(mutex);
    asleep.store(true);
    wake.wait_for(lock, longest, [&] { return events.load() != seen; });
    asleep.store(false);
  }

  const int rank;
  std::atomic<uint64_t> events{0};
  std::atomic<bool> asleep{false};
  std::mutex mutex;
  std::condition_variable wake;
  // For the watchdogs of others; guarded by `mutex`.
  int num_communicators = 0;  // 0: it has left
  bool waiting = false;
  ExchangeLabel waiting_label;
  std::vector<int> waiting_for;
  int num_file_works = 0;  // nested; of the outermost:
  const char* file_work = "";
  std::chrono::steady_clock::time_point file_work_since;
};

// All ranks of the job.
struct ThreadJob {
  std::vector<std::unique_ptr<RankThread>> ranks;
  WatchdogLimits limits;
  JobEndHook on_end;
  bool crowded = false;  // more ranks than processors: a rank that spins takes another one's time
  std::atomic<bool> ending{false};

  [[noreturn]] void End(const JobEnd& end) {
    if (ending.exchange(true)) {
      for (;;) pause();  // another rank is already ending the process
    }
    PrintErrorLine(end.reason);
    if (on_end) on_end(end);
    _exit(end.exit_code);
  }
};

}  // namespace unipool
