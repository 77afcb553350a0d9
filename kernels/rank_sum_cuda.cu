// A thread per 16 bytes of the sum, or per element where parts do not begin at 16 bytes; the loads of several
// ranks are under way while sums are made in rank order.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 256, kInFlight = 8;

template <class T>
struct Arguments {
  int64_t n;
  T* own;
  const char* parts;
  int64_t stride;
  int rank, size;
};

// Elements [at, at + kPack).
template <class T, int kPack>
__device__ inline void SumPack(const Arguments<T>& a, int64_t at) {
  Pack<T, kPack> sum = {};
  for (int first = 0; first < a.size; first += kInFlight) {
    Pack<T, kPack> x[kInFlight];
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int r = first + c;
      if (r >= a.size) continue;
      const T* from = r == a.rank ? a.own : reinterpret_cast<const T*>(a.parts + r * a.stride);
      x[c] = LoadPack<kPack>(from + at);
    }
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      if (first + c >= a.size) continue;
#pragma unroll
      for (int e = 0; e < kPack; ++e)
        sum.value[e] = first + c == 0 ? x[c].value[e] : sum.value[e] + x[c].value[e];
    }
  }
  StorePack(a.own + at, sum);
}

// Block kThreads.
template <class T, int kPack>
UNIPOOL_KERNEL((kThreads), SumKernel, Arguments<T> a) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, at = thread * kPack;
  if (at + kPack <= a.n) SumPack<T, kPack>(a, at);
  const int64_t last = a.n / kPack * kPack + thread;  // what no pack holds
  if (kPack > 1 && last < a.n) SumPack<T, 1>(a, last);
}

template <class T>
void LaunchSum(Stream& stream, const Tensor& own, const void* parts, int64_t stride, int rank, int size) {
  constexpr int kPack = kPackOf16<T>;
  const auto begins_at_packs = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const bool packs = begins_at_packs(own.data) && begins_at_packs(parts) && stride % 16 == 0;
  const Arguments<T> arguments = {own.size(), own.as<T>(), static_cast<const char*>(parts),
                                  stride,     rank,        size};
  Launch("SumInRankOrder", packs ? &SumKernel<T, kPack> : &SumKernel<T, 1>,
         {.grid = static_cast<unsigned>(CeilDiv(own.size(), int64_t{kThreads} * (packs ? kPack : 1))),
          .block = kThreads},
         stream, arguments);
}

}  // namespace

void SumInRankOrder(Stream& stream, const Tensor& own, const void* parts, int64_t stride, int rank,
                    int size) {
  if (own.dtype == DType::kF32) return LaunchSum<float>(stream, own, parts, stride, rank, size);
  if (own.dtype == DType::kF64) return LaunchSum<double>(stream, own, parts, stride, rank, size);
  LOG(FATAL) << "SumInRankOrder: no CUDA kernel for dtype " << NameOf(own.dtype);
}

}  // namespace unipool::cuda
