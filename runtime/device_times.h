// When the exchanges of one step ran on a rank's device, by events of its two queues. Nothing waits on the
// way of an exchange: events are made between steps, recorded in passing, and read when the step is over.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/device_context.h"

namespace unipool {

// Nanoseconds since the step's anchor.
struct DeviceExchangeTimes {
  // The communication queue had come so far, and the compute queue had done what is to be sent
  // (where an EarlyStart waited for that, the first alone). Then what the
  // communication queue was given with the start was done. Where blocks go through host memory that is the
  // copy to it, and the rest is the host's.
  int64_t begin_ns = 0, end_ns = 0;
  // The compute queue came to the wait, and went on.
  int64_t blocked_begin_ns = 0, blocked_end_ns = 0;
};

// A moment at which the device and the host were seen together: on the host's clock, +- uncertainty_ns.
struct DeviceAnchor {
  int64_t host_ns = -1, uncertainty_ns = -1;
};

class DeviceTimes {
 public:
  // `device` outlives it.
  explicit DeviceTimes(DeviceContext& device) : device_(device) {}

  // Between steps: room for the events of so many exchanges of a step.
  void Reserve(int64_t num_exchanges);
  // Between steps. Waits for what the device still does, once. `now`: the host's clock.
  void BeginStep(const std::function<int64_t()>& now);
  const DeviceAnchor& anchor() const { return anchor_; }

  // Around Communicator::Start. Returns the number of the exchange in the step, -1: there is no room.
  int64_t BeforeStart();
  void AfterStart(int64_t exchange);
  // Around Communicator::Wait, of an exchange that BeforeStart gave room.
  void BeforeWait(int64_t exchange);
  void AfterWait(int64_t exchange);

  // Waits until the device has done all work of the step so far. Then Read may be called, until the next
  // BeginStep.
  void EndStep();
  // REQUIRES: AfterWait was called.
  DeviceExchangeTimes Read(int64_t exchange) const;

 private:
  enum Moment { kQueue, kComputed, kEnd, kBlockedBegin, kBlockedEnd, kNumMoments };
  DeviceContext& device_;
  DeviceAnchor anchor_;
  DeviceContext::Event anchor_event_ = -1;
  DeviceContext::Event ends_[2] = {-1, -1};  // by queue
  std::vector<std::array<DeviceContext::Event, kNumMoments>> events_;
  int64_t num_taken_ = 0, num_allowed_ = 0;
};

}  // namespace unipool
