// A rank that computes can let its transport move data in between: MPI moves data only while it is called.
// Kernels on the CPU call PollPoint between parts of their work, some ten microseconds apart. It costs a
// nanosecond on threads without a poll, and a look at the clock on those with one.
#pragma once

#include <chrono>
#include <functional>

namespace unipool {

// While it lives, PollPoint of the thread that made it calls `poll`, at most once in `pause`. One per thread.
// `poll` must not compute: a kernel inside it would call it again.
class ThreadPoll {
 public:
  ThreadPoll(std::function<void()> poll, std::chrono::nanoseconds pause);
  ~ThreadPoll();
  ThreadPoll(const ThreadPoll&) = delete;
  ThreadPoll& operator=(const ThreadPoll&) = delete;

  void PollIfDue() {
    const auto now = Clock::now();
    if (now < next_) return;
    poll_();
    next_ = Clock::now() + pause_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::function<void()> poll_;
  std::chrono::nanoseconds pause_;
  Clock::time_point next_;
};

namespace poll_point {
inline constinit thread_local ThreadPoll* of_thread = nullptr;
}

inline void PollPoint() {
  if (poll_point::of_thread) poll_point::of_thread->PollIfDue();
}

}  // namespace unipool
