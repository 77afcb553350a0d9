// Several threads work on a sequence of items. Results come in the order of the items. Memory is bounded.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/watchdog.h"

namespace unipool {

// next(item) fills the next item and returns false at the end. work(item) gives its result. finish(result)
// takes the results in order. One thread at a time calls `next` and `finish`; all threads call `work`. At
// most 2 * threads items are between `next` and `finish`. The first error, in the order of the items, ends
// the run and is thrown from Run.
template <typename Item, typename Result>
class OrderedPipeline {
 public:
  std::function<bool(Item&)> next;
  std::function<Result(Item&)> work;
  std::function<void(Result&)> finish;

  void Run(int threads) {
    most_in_flight_ = 2 * threads;
    std::vector<std::thread> others;
    try {
      for (int i = 1; i < threads; ++i) others.emplace_back([this] { Loop(); });
    } catch (const std::system_error& error) {  // a limit: those that there are do the work
      PrintErrorLine("note: only " + std::to_string(others.size() + 1) + " of " + std::to_string(threads) +
                     " threads could be started (" + error.code().message() + ")");
    }
    Loop();
    for (std::thread& other : others) other.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct Outcome {
    Result result;
    std::exception_ptr error;
  };

  void Loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock,
                    [this] { return error_ || ended_ || num_taken_ - num_finished_ < most_in_flight_; });
      if (error_ || ended_) return;
      Item item;
      const int64_t number = num_taken_;
      Outcome outcome;
      try {
        ended_ = !next(item);
      } catch (...) {
        ended_ = true;
        outcome.error = std::current_exception();
      }
      if (ended_) changed_.notify_all();
      if (ended_ && !outcome.error) return;
      ++num_taken_;
      if (!outcome.error) {
        lock.unlock();
        try {
          outcome.result = work(item);
        } catch (...) {
          outcome.error = std::current_exception();
        }
        lock.lock();
      }
      outcomes_.emplace(number, std::move(outcome));
      FinishReady(lock);
    }
  }

  // Whoever completes the oldest open item finishes it and all that wait behind it.
  void FinishReady(std::unique_lock<std::mutex>& lock) {
    while (!error_ && !finishing_ && !outcomes_.empty() && outcomes_.begin()->first == num_finished_) {
      Outcome outcome = std::move(outcomes_.begin()->second);
      outcomes_.erase(outcomes_.begin());
      finishing_ = true;
      lock.unlock();
      if (!outcome.error) {
        try {
          finish(outcome.result);
        } catch (...) {
          outcome.error = std::current_exception();
        }
      }
      lock.lock();
      finishing_ = false;
      ++num_finished_;
      if (outcome.error) error_ = outcome.error;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int most_in_flight_ = 0;
  int64_t num_taken_ = 0, num_finished_ = 0;
  bool ended_ = false, finishing_ = false;
  std::exception_ptr error_;
  std::map<int64_t, Outcome> outcomes_;  // completed, waiting for their turn
};

}  // namespace unipool
