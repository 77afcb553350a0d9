#include "launcher/serve/connection_threads.h"

namespace unipool {

ConnectionThreads::ConnectionThreads(size_t num_threads, size_t most_waiting) : most_waiting_(most_waiting) {
  for (size_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
}

ConnectionThreads::~ConnectionThreads() {
  shutdown();
}

ConnectionThreads::Taken ConnectionThreads::enqueue(std::function<void()> connection) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_shut_ || waiting_.size() < most_waiting_; });
    waiting_.push_back(std::move(connection));
  }
  changed_.notify_all();
  return static_cast<Taken>(true);
}

void ConnectionThreads::shutdown() {
  {
    const std::lock_guard lock(mutex_);
    is_shut_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

// Connections that wait at the end are served too: they get their answer, or are closed.
void ConnectionThreads::Work() {
  while (true) {
    std::function<void()> connection;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return is_shut_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      connection = std::move(waiting_.front());
      waiting_.pop_front();
    }
    changed_.notify_all();
    connection();
  }
}

}  // namespace unipool
