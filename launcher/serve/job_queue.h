// Work that threads of connections hand to the one thread that owns the model.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>

namespace unipool {

class JobQueue {
 public:
  using Job = std::function<std::string()>;
  // At most `most_waiting` jobs wait, beside the one that runs.
  explicit JobQueue(size_t most_waiting) : most_waiting_(most_waiting) {}

  // Runs the job on the other thread and returns what it returns, or throws what it throws. Throws HttpError:
  // 429 where too many wait, 503 after Stop.
  std::string Run(Job job);

  // The other thread: runs jobs until Stop.
  void Work();
  // Jobs that wait are answered with 503; no new ones are taken. Any thread.
  void Stop();
  size_t num_waiting();
  bool is_stopped() const { return is_stopped_; }

 private:
  const size_t most_waiting_;
  std::atomic<bool> is_stopped_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<std::string()>> waiting_;
};

}  // namespace unipool
