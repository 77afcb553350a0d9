// A rank's time in the emulated world: it runs with the processor time of the rank's own thread while the
// rank computes, stands still inside the transport, and jumps when the rank waits for something that arrives
// later.
#pragma once

#include <functional>

namespace unipool {

double ThreadCpuSeconds();  // processor time of the calling thread

class VirtualClock {
 public:
  // `scale` virtual seconds pass per second of `cpu_seconds`, which only ever grows. The clock stands still
  // until Continue.
  explicit VirtualClock(double scale, std::function<double()> cpu_seconds = ThreadCpuSeconds)
      : scale_(scale), cpu_seconds_(std::move(cpu_seconds)) {}

  void Continue() { resumed_at_ = cpu_seconds_(); }
  // Stands still again, and what was computed since Continue has passed. Returns how much that was.
  double Stop() {
    const double computed = scale_ * (cpu_seconds_() - resumed_at_);
    now_ += computed;
    compute_seconds_ += computed;
    return computed;
  }
  void AdvanceTo(double seconds) { now_ = seconds > now_ ? seconds : now_; }

  double now() const { return now_; }  // as of the last Stop or AdvanceTo
  double compute_seconds() const { return compute_seconds_; }

 private:
  double scale_;
  std::function<double()> cpu_seconds_;
  double resumed_at_ = 0, now_ = 0, compute_seconds_ = 0;
};

}  // namespace unipool
