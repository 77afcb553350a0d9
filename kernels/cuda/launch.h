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

// Begins the definition of a kernel: UNIPOOL_KERNEL((kThreads), Scale, float x, float* y) { ... } is
// `__global__ void __launch_bounds__(kThreads) Scale(float x, float* y) { ... }`. `bounds` are in brackets:
// the most threads of a block, and perhaps the blocks that a processor shall hold. In the tests they are a
// part of the kernel's type, and a launch with more threads is refused as a driver refuses it.
#ifdef __CUDACC__
#define UNIPOOL_KERNEL(bounds, name, ...) __global__ void __launch_bounds__ bounds name(__VA_ARGS__)
#else
#define UNIPOOL_KERNEL(bounds, name, ...) \
  void name(::unipool::emulation::Bounds<::unipool::emulation::MostThreads bounds>, __VA_ARGS__)
#endif

// Starts a kernel of UNIPOOL_KERNEL. `name` is how errors call it. Arguments are copied, as CUDA does. They
// may have 4 KiB together.
#ifdef __CUDACC__
// Lets the kernel use so much dynamic shared memory on the thread's device.
inline void AllowShared(const char* name, const void* kernel, int64_t bytes) {
  static ProcessAllowance of_process;
  static thread_local SharedAllowance allowance(of_process);
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    allowance.Allow(kernel, device, bytes, [&] {
      error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    });
  }
  CHECK(error == cudaSuccess) << name << " with " << bytes
                              << " bytes of shared memory: " << cudaGetErrorString(error);
}

template <class... P, class... A>
void Launch(const char* name, void (*kernel)(P...), const LaunchShape& shape, Stream& stream,
            A... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (AsksForShared(shape)) AllowShared(name, reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  kernel<<<shape.grid, shape.block, shape.shared_bytes, QueueOf(stream)>>>(static_cast<P>(arguments)...);
  const cudaError_t error = cudaGetLastError();
  CHECK(error == cudaSuccess) << name << ": " << cudaGetErrorString(error);
}
#else
template <int kMostThreads, class... P, class... A>
void Launch(const char* name, void (*kernel)(emulation::Bounds<kMostThreads>, P...), const LaunchShape& shape,
            Stream& stream, A... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  QueueOf(stream)->Launch({.name = name,
                           .grid = shape.grid,
                           .block = shape.block,
                           .shared_bytes = shape.shared_bytes,
                           .asks_for_shared = AsksForShared(shape),
                           .most_threads = kMostThreads,
                           .argument_bytes = emulation::ArgumentBytes<P...>()},
                          [=] { kernel({}, static_cast<P>(arguments)...); });
}
// A plain function as a kernel, which may have as many threads as a device allows: for tests.
template <class... P, class... A>
void Launch(const char* name, void (*function)(P...), const LaunchShape& shape, Stream& stream,
            A... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  QueueOf(stream)->Launch({.name = name,
                           .grid = shape.grid,
                           .block = shape.block,
                           .shared_bytes = shape.shared_bytes,
                           .asks_for_shared = AsksForShared(shape),
                           .most_threads = 1024,
                           .argument_bytes = emulation::ArgumentBytes<P...>()},
                          [=] { function(static_cast<P>(arguments)...); });
}
#endif

}  // namespace unipool::cuda
