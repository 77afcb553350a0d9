// Books the time that a rank spends on the step's statistics. No result depends on it.
#pragma once

#include <functional>
#include <utility>

namespace unipool {

class WaitClock {
 public:
  // `now` gives this rank's time in seconds. Empty: nothing is booked.
  explicit WaitClock(std::function<double()> now = {}) : now_(std::move(now)) {}

  // Runs work(), which talks to other ranks, and books the time that it takes.
  template <class Work>
  void Time(Work&& work) {
    const double begin = now_ ? now_() : 0;
    work();
    if (now_) seconds_ += now_() - begin;
  }

  void Reset() { seconds_ = 0; }
  double seconds() const { return seconds_; }  // since Reset

 private:
  std::function<double()> now_;
  double seconds_ = 0;
};

}  // namespace unipool
