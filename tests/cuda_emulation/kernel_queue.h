// What the tests have in the place of a CUDA stream: takes kernels and other work in order. Who implements it
// decides when the work is done: at once (machine.h), or when events allow (device_emulation/async_device.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/cuda_emulation/thread_index.h"

namespace unipool::emulation {

// What a piece of work does with memory.
struct Access {
  const void* begin;
  int64_t bytes;
  bool is_write;
  bool Overlaps(const Access& other) const {
    const auto* a = static_cast<const char*>(begin);
    const auto* b = static_cast<const char*>(other.begin);
    return a < b + other.bytes && b < a + bytes;
  }
};

// The dynamic shared memory of a launch.
struct SharedRequest {
  int64_t bytes;
  bool asks;  // for more than the 48 KiB that static and dynamic memory have together otherwise
};

class KernelQueue {
 public:
  virtual ~KernelQueue() = default;
  // `body` is executed once by every thread of the grid.
  virtual void Launch(const std::string& name, dim3 grid, dim3 block, SharedRequest shared,
                      std::function<void()> body) = 0;
  // Other work, and all memory that it reads or writes.
  virtual void Enqueue(const std::string& name, std::vector<Access> accesses, std::function<void()> work) = 0;
};

}  // namespace unipool::emulation
