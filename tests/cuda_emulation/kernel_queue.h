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

// The launch bound of a kernel, as its first parameter.
template <int kMostThreads>
struct Bounds {};
// `__launch_bounds__(most_threads, blocks)`. The blocks are a wish to the compiler that no launch can break.
constexpr int MostThreads(int most_threads, [[maybe_unused]] int blocks = 0) {
  return most_threads;
}

// What the parameters of a kernel take, one behind the other, each aligned to its type.
template <class... P>
constexpr int64_t ArgumentBytes() {
  int64_t bytes = 0;
  const auto add = [&](int64_t size, int64_t alignment) {
    bytes = (bytes + alignment - 1) / alignment * alignment + size;
  };
  (add(sizeof(P), alignof(P)), ...);
  return bytes;
}

// What a driver looks at before it takes a launch.
struct KernelLaunch {
  std::string name;
  dim3 grid, block;
  int64_t shared_bytes;  // dynamic
  bool asks_for_shared;  // for more than the 48 KiB that static and dynamic memory have together otherwise
  int most_threads;      // of a block, by the kernel's launch bounds
  int64_t argument_bytes;
};

class KernelQueue {
 public:
  virtual ~KernelQueue() = default;
  // `body` is executed once by every thread of the grid.
  virtual void Launch(const KernelLaunch& launch, std::function<void()> body) = 0;
  // Other work, and all memory that it reads or writes.
  virtual void Enqueue(const std::string& name, std::vector<Access> accesses, std::function<void()> work) = 0;
};

}  // namespace unipool::emulation
