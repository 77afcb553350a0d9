// Packs of 4 elements, several a thread at a time; single elements where an array does not begin at a pack.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 256, kInFlight = 4, kPacked = kPackOf<float, Bf16>;

template <int kPack>
__device__ inline void SplitPack(const Pack<float, kPack>& x, Bf16* high, Bf16* low) {
  Pack<Bf16, kPack> upper, lower;
#pragma unroll
  for (int e = 0; e < kPack; ++e) {
    upper.value[e] = FromFloat<Bf16>(x.value[e]);
    lower.value[e] = FromFloat<Bf16>(x.value[e] - ToFloat(upper.value[e]));
  }
  StorePack(high, upper);
  StorePack(low, lower);
}

// Block kThreads; kInFlight packs a thread.
template <int kPack>
UNIPOOL_KERNEL((kThreads), SplitKernel, int64_t n, const float* x, Bf16* high, Bf16* low) {
  const auto at = [](int c) {
    return ((int64_t{blockIdx.x} * kInFlight + c) * kThreads + threadIdx.x) * kPack;
  };
  Pack<float, kPack> held[kInFlight];
#pragma unroll
  for (int c = 0; c < kInFlight; ++c) {
    if (at(c) + kPack <= n) held[c] = LoadPack<kPack>(x + at(c));
  }
#pragma unroll
  for (int c = 0; c < kInFlight; ++c) {
    if (at(c) + kPack <= n) SplitPack(held[c], high + at(c), low + at(c));
  }
  const int64_t last = n / kPack * kPack + threadIdx.x;
  if (blockIdx.x == 0 && last < n) SplitPack(LoadPack<1>(x + last), high + last, low + last);
}

}  // namespace

void SplitBf16(Stream& stream, const Tensor& x, const Tensor& high, const Tensor& low) {
  const int64_t n = x.size();
  const bool packs = RowsAllowPacksOf(kPacked, 0, {&x, &high, &low});  // a remainder is no obstacle here
  const int64_t block_elements = int64_t{kThreads} * kInFlight * (packs ? kPacked : 1);
  Launch("SplitBf16", packs ? &SplitKernel<kPacked> : &SplitKernel<1>,
         {.grid = static_cast<unsigned>(CeilDiv(n, block_elements)), .block = kThreads}, stream, n,
         x.as<float>(), high.as<Bf16>(), low.as<Bf16>());
}

}  // namespace unipool::cuda
