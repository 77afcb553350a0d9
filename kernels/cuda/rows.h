// Pieces of kernels that move rows, possibly between two types.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/device.h"

#ifdef __CUDACC__
// What `assert` calls on a device, in programs with NDEBUG too.
extern "C" __device__ __attribute__((noreturn)) void __assertfail(const char* message, const char* file,
                                                                  unsigned line, const char* function,
                                                                  size_t char_bytes);
#endif

namespace unipool::cuda {

// Elements that move together where the widest of the types fills 16 bytes.
template <class... T>
inline constexpr int kPackOf = 16 / static_cast<int>(std::max({sizeof(T)...}));

// Ends the job if `holds` is false, which means that the kernel's caller broke the contract of its header.
// The device then writes the contract, the block and the thread to standard error, and the host's next call
// of CUDA fails with "device-side assert triggered".
__device__ inline void DeviceCheck(bool holds, const char* contract) {
  if (holds) return;
#ifdef __CUDACC__
  __assertfail(contract, "a contract is broken", 0, "DeviceCheck", sizeof(char));
#else
  ::unipool::emulation::Machine::Current().Fail(std::string("breaks the contract: ") + contract);
#endif
}

template <class To, class From>
__device__ inline To Convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    return FromFloat<To>(ToFloat(x));
  }
}

template <class To, int kPack, class From>
__device__ inline Pack<To, kPack> ConvertPack(const Pack<From, kPack>& from) {
  Pack<To, kPack> to;
#pragma unroll
  for (int e = 0; e < kPack; ++e) to.value[e] = Convert<To>(from.value[e]);
  return to;
}

// The first element of a warp's pack c, when its lanes take kHeld packs each of a row from `begin` on.
// threadIdx.x is the lane.
template <int kPack>
__device__ inline int64_t PackAt(int64_t begin, int c) {
  return begin + (c * kWarp + static_cast<int>(threadIdx.x)) * kPack;
}

// Starts the loads of kHeld packs a lane; packs behind the end of the row are not touched.
template <int kPack, int kHeld, class T>
__device__ inline void LoadRow(const T* row, int64_t begin, int64_t width, Pack<T, kPack> (&packs)[kHeld]) {
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    const int64_t j = PackAt<kPack>(begin, c);
    if (j < width) packs[c] = LoadPack<kPack>(row + j);
  }
}

// Can all of these, rows of `width` elements, move in packs of `pack` elements? Tensors that are empty do not
// matter.
inline bool RowsAllowPacksOf(int pack, int64_t width, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (tensor->empty()) continue;
    const int64_t pack_bytes = pack * SizeOf(tensor->dtype);
    if (width % pack != 0 || reinterpret_cast<uintptr_t>(tensor->data) % pack_bytes != 0) return false;
  }
  return true;
}

// Runs `body.template operator()<A, B>()` with float or Bf16 for each.
template <class Body>
void DispatchDevicePair(const char* name, DType a, DType b, Body&& body) {
  DispatchDevice(name, a, [&]<class A>() {
    DispatchDevice(name, b, [&]<class B>() { body.template operator()<A, B>(); });
  });
}

}  // namespace unipool::cuda
