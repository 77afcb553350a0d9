// One rank's fake device and what communicators need of it, and work on its compute queue that says which
// memory it touches, so that the device sees what has no order.
#pragma once

#include <span>

#include "parallel/device_communicator.h"
#include "tests/device_emulation/async_device.h"

namespace unipool {

class DeviceRank {
 public:
  DeviceRank(emulation::RunPolicy policy, uint64_t seed)
      : context(policy, seed),
        memory(&context),
        compute(memory, CudaQueue{.stream = context.queue(DeviceQueue::kCompute), .memory = &context}) {}
  CommunicationDevice communication() { return {.context = context, .compute = compute, .memory = memory}; }

  Buffer Allocate(int64_t bytes) { return Buffer::Allocate(memory, MemoryKind::kActivations, bytes); }
  // Done by the compute queue in its turn.
  void Compute(const char* name, std::vector<emulation::Access> accesses, std::function<void()> work) {
    static_cast<emulation::KernelQueue*>(context.queue(DeviceQueue::kCompute))
        ->Enqueue(name, std::move(accesses), std::move(work));
  }

  emulation::AsyncDevice context;
  MemoryMeter memory;  // of the device
  Stream compute;
};

}  // namespace unipool
