// A rank's time in the emulated world (emulated_communicator.h). While the rank computes, its clock runs with
// the processor time of the rank's own thread. Inside the communicator the clock stands still. Where the rank
// waits for something that arrives later, the clock jumps there.
#pragma once

#include <functional>

namespace unipool {

double ThreadCpuSeconds();  // the processor time of the calling thread so far

class VirtualClock {
 public:
  // While the clock runs, `scale` virtual seconds pass in one second of `cpu_seconds`, which never falls. The
  // clock stands still until Continue.
  explicit VirtualClock(double scale, std::function<double()> cpu_seconds = ThreadCpuSeconds)
      : scale_(scale), cpu_seconds_(std::move(cpu_seconds)) {}

  void Continue() { resumed_at_ = cpu_seconds_(); }
  // The clock stands still again. Returns the virtual seconds that have passed since Continue.
  double Stop() {
    const double computed = scale_ * (cpu_seconds_() - resumed_at_);
    now_ += computed;
    compute_seconds_ += computed;
    return computed;
  }
  // Work took so many virtual seconds.
  void Add(double seconds) {
    now_ += seconds;
    compute_seconds_ += seconds;
  }
  // Jumps to a later time; an earlier one changes nothing.
  void AdvanceTo(double seconds) { now_ = seconds > now_ ? seconds : now_; }

  double now() const { return now_; }  // at the last Stop or AdvanceTo
  // Virtual seconds that passed while the clock ran, without jumps.
  double compute_seconds() const { return compute_seconds_; }

 private:
  double scale_;
  std::function<double()> cpu_seconds_;
  double resumed_at_ = 0, now_ = 0, compute_seconds_ = 0;
};

}  // namespace unipool
