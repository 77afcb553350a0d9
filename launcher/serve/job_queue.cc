#include "launcher/serve/job_queue.h"

#include "launcher/serve/completion_request.h"

namespace unipool {

std::string JobQueue::Run(Job job) {
  // A job that waits when all ends runs too, and says so.
  std::packaged_task<std::string()> task([this, job = std::move(job)] {
    if (is_stopped_) throw HttpError(503, "the server stops");
    return job();
  });
  std::future<std::string> result = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (is_stopped_) throw HttpError(503, "the server stops");
    if (waiting_.size() >= most_waiting_)
      throw HttpError(429, "too many requests wait already; ask again a little later");
    waiting_.push_back(std::move(task));
  }
  changed_.notify_one();
  return result.get();
}

void JobQueue::Work() {
  while (true) {
    std::packaged_task<std::string()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return is_stopped_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      task = std::move(waiting_.front());
      waiting_.pop_front();
    }
    task();
  }
}

size_t JobQueue::num_waiting() {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

void JobQueue::Stop() {
  {
    const std::lock_guard lock(mutex_);
    is_stopped_ = true;
  }
  changed_.notify_all();
}

}  // namespace unipool
