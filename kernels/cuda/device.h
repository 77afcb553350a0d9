// What kernel bodies are written with: bf16, 16-byte accesses, shared memory, sums over a warp and a block.
// The tests compile the same bodies as C++ for the host. CUDA's own names (threadIdx, __syncthreads,
// __shfl_xor_sync, atomicAdd, ...) are used as they are. Bare __shared__ is not used, so that the tests can
// watch shared memory.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "runtime/tensor.h"

namespace unipool {

using Bf16 = __nv_bfloat16;
template <>
struct DTypeOf<Bf16> {
  static constexpr DType value = DType::kBF16;
};

namespace cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

__device__ inline float ToFloat(float x) {
  return x;
}
__device__ inline float ToFloat(Bf16 x) {
  return __bfloat162float(x);
}
template <class T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline Bf16 FromFloat<Bf16>(float x) {
  return __float2bfloat16(x);  // to nearest, ties to even
}

// kCount neighbouring elements that move in one access. Packs of 16 bytes where rows allow it, of one element
// where they do not.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T value[kCount];
};
template <class T>
inline constexpr int kPackOf16 = 16 / static_cast<int>(sizeof(T));

// REQUIRES: `from` and `to` are aligned to the pack.
template <int kCount, class T>
__device__ inline Pack<T, kCount> LoadPack(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}
template <int kCount, class T>
__device__ inline void StorePack(T* to, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}

// UNIPOOL_SHARED(float, tile, [32][33]) is `__shared__ float tile[32][33]`, in a kernel or device function.
// Its content is undefined when a block starts: NaN in the tests.
#ifdef __CUDACC__
#define UNIPOOL_SHARED(type, name, extent) __shared__ type name extent
#else
#define UNIPOOL_SHARED(type, name, extent)                                                          \
  typedef type name##_array extent;                                                                 \
  static const char name##_site = 0;                                                                \
  name##_array& name = *static_cast<name##_array*>(::unipool::emulation::Machine::Current().Shared( \
      &name##_site, #name, sizeof(name##_array), alignof(name##_array)))
#endif

// The dynamic shared memory of LaunchShape::shared_bytes, 16-byte aligned; the same for every T.
template <class T>
__device__ inline T* DynamicShared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
#else
  return static_cast<T*>(::unipool::emulation::Machine::Current().DynamicShared());
#endif
}

// Sum over the warp, the same bits in every lane. REQUIRES: all 32 lanes call it.
template <class T>
__device__ inline T WarpSum(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}
template <class T>
__device__ inline T WarpMax(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(kFullWarp, x, step);
    x = other > x ? other : x;
  }
  return x;
}

// Sum over a one-dimensional block in a fixed order, the same bits in every thread. REQUIRES: whole warps,
// all threads call it.
template <class T>
__device__ inline T BlockSum(T x) {
  UNIPOOL_SHARED(T, sums, [kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, num_warps = blockDim.x / kWarp;
  x = WarpSum(x);
  __syncthreads();  // an earlier sum has been read by all
  if (lane == 0) sums[warp] = x;
  __syncthreads();
  return WarpSum(lane < num_warps ? sums[lane] : T(0));
}

// Can rows of `width` elements that begin at these tensors move in packs of 16 bytes? Tensors that are empty
// do not matter.
inline bool RowsAllowPacks(int64_t width, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (tensor->empty()) continue;
    if (width * SizeOf(tensor->dtype) % 16 != 0 || reinterpret_cast<uintptr_t>(tensor->data) % 16 != 0)
      return false;
  }
  return true;
}

// Runs `body.template operator()<T>()` with T = float or Bf16; any other type ends the job.
template <class Body>
void DispatchDevice(const char* name, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kBF16:
      return body.template operator()<Bf16>();
    default:
      LOG(FATAL) << name << ": no CUDA kernel for dtype " << NameOf(dtype);
  }
}

}  // namespace cuda
}  // namespace unipool
