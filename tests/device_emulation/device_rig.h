// A fake device with a stream on its compute queue, a kernel, and small arrays.
#pragma once

#include <functional>

#include "kernels/cuda/device.h"
#include "tests/device_emulation/async_device.h"

namespace unipool {

using emulation::AsyncDevice;
using emulation::DeviceError;
using emulation::kAllPolicies;
using emulation::RunPolicy;

constexpr int64_t kCount = 48, kBytes = kCount * int64_t{sizeof(float)};
constexpr DeviceQueue kCompute = DeviceQueue::kCompute, kCommunication = DeviceQueue::kCommunication;

inline UNIPOOL_KERNEL((64), Affine, const float* x, float* y, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) y[i] = 2 * x[i] + 1;
}

struct Rig {
  explicit Rig(RunPolicy policy, uint64_t seed = 1) : device(policy, seed) {}
  float* Array(int64_t count = kCount) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
    void* data = device.Reserve(bytes);
    device.Commit(data, bytes);
    device.Zero(data, bytes);
    return static_cast<float*>(data);
  }
  float* Pinned(int64_t count = kCount) {
    return static_cast<float*>(device.AllocatePinned(count * static_cast<int64_t>(sizeof(float))));
  }
  void LaunchAffine(const float* x, float* y, int count = kCount) {
    cuda::Launch("Affine", Affine, {.grid = dim3(1), .block = dim3(64)}, stream, x, y, count);
  }
  AsyncDevice device;
  MemoryMeter meter{&device};
  Stream stream{meter, CudaQueue{.stream = device.queue(kCompute), .memory = &device}};
};

// The text of what the call throws; "no error" where it throws nothing.
inline std::string ErrorOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace unipool
