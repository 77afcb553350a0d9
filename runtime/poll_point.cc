#include "runtime/poll_point.h"

#include <glog/logging.h>

#include <utility>

namespace unipool {

ThreadPoll::ThreadPoll(std::function<void()> poll, std::chrono::nanoseconds pause)
    : poll_(std::move(poll)), pause_(pause), next_(Clock::now()) {
  CHECK(!poll_point::of_thread) << "this thread polls already";
  poll_point::of_thread = this;
}

ThreadPoll::~ThreadPoll() {
  poll_point::of_thread = nullptr;
}

}  // namespace unipool
