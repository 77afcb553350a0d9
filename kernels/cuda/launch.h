// Starts a kernel. On a device this is nvcc's own launch. Where a .cu file is compiled as C++ for the tests,
// the kernel runs thread by thread on the host (tests/cuda_emulation).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/scratch.h"
#include "kernels/cuda/shared_allowance.h"
#include "runtime/stream.h"

namespace unipool::cuda {

struct LaunchShape {
  dim3 grid;                 // an empty grid starts nothing
  dim3 block;                // at most 1024 threads
  int64_t shared_bytes = 0;  // dynamic shared memory, see DynamicShared
};

// A block has 48 KiB of shared memory, static and dynamic together, unless its launch asks for more. A launch
// does not know the static arrays of its kernel. They may have 16 KiB, so what leaves less than that asks.
inline constexpr int64_t kSharedWithoutAsking = (48 << 10) - (16 << 10);
inline bool AsksForShared(const LaunchShape& shape) {
  return shape.shared_bytes > kSharedWithoutAsking;
}

inline cudaStream_t QueueOf(Stream& stream) {
  return static_cast<cudaStream_t>(stream.cuda().stream);
}

#ifdef __CUDACC__
// Lets the kernel use so much dynamic shared memory on the thread's device.
inline void AllowShared(const char* name, const void* kernel, int64_t bytes) {
  static thread_local SharedAllowance allowance;
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess && allowance.MustAsk(kernel, device, bytes)) {
    error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  }
  CHECK(error == cudaSuccess) << name << " with " << bytes
                              << " bytes of shared memory: " << cudaGetErrorString(error);
}
#endif

// `name` is how errors call the kernel. Arguments are copied, as CUDA does.
template <class... P, class... A>
void Launch(const char* name, void (*kernel)(P...), const LaunchShape& shape, Stream& stream,
            A... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
#ifdef __CUDACC__
  if (AsksForShared(shape)) AllowShared(name, reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  kernel<<<shape.grid, shape.block, shape.shared_bytes, QueueOf(stream)>>>(static_cast<P>(arguments)...);
  const cudaError_t error = cudaGetLastError();
  CHECK(error == cudaSuccess) << name << ": " << cudaGetErrorString(error);
#else
  QueueOf(stream)->Launch(name, shape.grid, shape.block, {shape.shared_bytes, AsksForShared(shape)},
                          [=] { kernel(static_cast<P>(arguments)...); });
#endif
}

}  // namespace unipool::cuda
