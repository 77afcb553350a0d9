// A thread rotates the same pairs of several heads of a token, so that it needs their angle once and has
// several packs under way.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 256, kHeadsOfThread = 4;

template <class T>
struct RopeArguments {
  int64_t num_tokens, qkv_stride;
  int length, heads, half;  // heads that rotate, queries first; pairs of a head
  float sign;
  const float *cos, *sin;  // of position 0 of the sequences, [length, half]
  T* qkv;
};

template <class T, int kPack>
UNIPOOL_KERNEL((kThreads), RopeKernel, RopeArguments<T> a) {
  const int packs = a.half / kPack, strides = (a.heads + kHeadsOfThread - 1) / kHeadsOfThread;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t token = i / (packs * strides);
  if (token >= a.num_tokens) return;
  const int rest = static_cast<int>(i % (packs * strides)), j = rest % packs * kPack;
  T* row = a.qkv + token * a.qkv_stride + j;
  const int64_t angle = token % a.length * a.half + j;
  Pack<T, kPack> low[kHeadsOfThread], high[kHeadsOfThread];
  // The thread's heads lie `strides` apart: neighbouring threads have neighbouring heads.
#pragma unroll
  for (int k = 0; k < kHeadsOfThread; ++k) {
    const int head = rest / packs + k * strides;
    if (head >= a.heads) continue;
    low[k] = LoadPack<kPack>(row + head * 2 * a.half);
    high[k] = LoadPack<kPack>(row + head * 2 * a.half + a.half);
  }
  constexpr int kAngles = kPack < 4 ? kPack : 4;  // in one access
  float cos[kPack], sin[kPack];
#pragma unroll
  for (int e = 0; e < kPack; e += kAngles) {
    const auto cos_pack = LoadPack<kAngles>(a.cos + angle + e),
               sin_pack = LoadPack<kAngles>(a.sin + angle + e);
#pragma unroll
    for (int f = 0; f < kAngles; ++f) {
      cos[e + f] = cos_pack.value[f];
      sin[e + f] = a.sign * sin_pack.value[f];
    }
  }
#pragma unroll
  for (int k = 0; k < kHeadsOfThread; ++k) {
    const int head = rest / packs + k * strides;
    if (head >= a.heads) continue;
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      const float x = ToFloat(low[k].value[e]), y = ToFloat(high[k].value[e]);
      low[k].value[e] = FromFloat<T>(x * cos[e] - y * sin[e]);
      high[k].value[e] = FromFloat<T>(y * cos[e] + x * sin[e]);
    }
    StorePack(row + head * 2 * a.half, low[k]);
    StorePack(row + head * 2 * a.half + a.half, high[k]);
  }
}

}  // namespace

void Rope(Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
          RopeDirection direction, const Tensor& qkv, int64_t first_position) {
  const int64_t half = shape.head_size / 2, heads = shape.num_heads + shape.num_kv_heads;
  DispatchDevice("Rope", qkv.dtype, [&]<class T>() {
    const RopeArguments<T> arguments = {.num_tokens = shape.tokens(),
                                        .qkv_stride = shape.qkv_size(),
                                        .length = static_cast<int>(shape.sequence_length),
                                        .heads = static_cast<int>(heads),
                                        .half = static_cast<int>(half),
                                        .sign = direction == RopeDirection::kForward ? 1.0f : -1.0f,
                                        .cos = cos.as<float>() + first_position * half,
                                        .sin = sin.as<float>() + first_position * half,
                                        .qkv = qkv.as<T>()};
    const bool packs = RowsAllowPacks(half, {&qkv, &cos, &sin});
    const int64_t threads =
        shape.tokens() * (half / (packs ? kPackOf16<T> : 1)) * CeilDiv(heads, kHeadsOfThread);
    Launch("Rope", packs ? &RopeKernel<T, kPackOf16<T>> : &RopeKernel<T, 1>,
           {.grid = static_cast<unsigned>(CeilDiv(threads, kThreads)), .block = kThreads}, stream, arguments);
  });
}

}  // namespace unipool::cuda
