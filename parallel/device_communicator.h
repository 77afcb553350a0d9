// What all communicators of device memory have in common. Sums run on the rank's compute queue, through
// staging memory of its device.
#pragma once

#include <utility>

#include "kernels/rank_sum.h"
#include "runtime/communicator.h"
#include "runtime/device_context.h"
#include "runtime/errors.h"

namespace unipool {

// One rank's device, as its communicators use it. All members outlive the communicators. Only the rank's
// thread uses them.
struct CommunicationDevice {
  DeviceContext& context;
  Stream& compute;      // of context's compute queue
  MemoryMeter& memory;  // of the device; staging memory counts as MemoryKind::kExchange
};

// Start means: do this exchange after all work of the compute queue so far, beside what it is given later.
// Within an EarlyStart (runtime/device_context.h) it comes after less.
// Wait means: what the compute queue is given from now on comes after the exchange. The work itself may be
// done long after either returns. Split is not for device memory (CHECK): split the host's communicator and
// wrap the part.
class DeviceCommunicator : public Communicator {
 public:
  DeviceContext* OfDevice() const final { return &device_.context; }
  std::unique_ptr<Communicator> Split(int /*color*/, int /*key*/) final {
    LOG(FATAL) << "a communicator of device memory is not split; split the host's";
    return nullptr;
  }

 protected:
  DeviceCommunicator(int rank, int size, const CommunicationDevice& device)
      : Communicator(rank, size), device_(device) {}
  // Grows in the first step and then stays.
  void* Staging(int64_t bytes) final {
    if (bytes > staging_.max_bytes()) {
      if (staging_.data()) device_.context.Drain();  // the old memory may be in use
      staging_ = Buffer();
      staging_ = Buffer::Reserve(device_.memory, MemoryKind::kExchange, bytes);
      staging_.Use(bytes);
    }
    return staging_.data();
  }
  void SumParts(const Tensor& own, const void* parts, int64_t stride) final {
    SumInRankOrder(device_.compute, own, parts, stride, rank_, size_);
  }
  CommunicationDevice device_;

 private:
  Buffer staging_;
};

}  // namespace unipool
