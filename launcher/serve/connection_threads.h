// The threads that talk to clients: a fixed number, and a bounded queue of connections before them. When that
// is full no connection is taken, and the system lets clients wait or refuses them.
#pragma once

#include <httplib.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace unipool {

class ConnectionThreads : public httplib::TaskQueue {
 public:
  ConnectionThreads(size_t num_threads, size_t most_waiting);
  ~ConnectionThreads() override;

  // Versions of the library differ in what it returns: nothing, or whether the connection is taken.
  using Taken = decltype(std::declval<httplib::TaskQueue&>().enqueue(std::function<void()>()));
  Taken enqueue(std::function<void()> connection) override;
  // Waits for all threads. REQUIRES: their connections end by themselves.
  void shutdown() override;

 private:
  void Work();
  const size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_shut_ = false;
  std::deque<std::function<void()>> waiting_;
  std::vector<std::thread> threads_;
};

}  // namespace unipool
