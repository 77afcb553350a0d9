// A block per row; each thread has up to kInFlight packs of every operand under way.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 128, kInFlight = 4;

__device__ inline float Sigmoid(float x) {
  return 1.0f / (1.0f + __expf(-x));
}

// Calls body(j, c) for this thread's packs of a row of `width` elements, kInFlight at a time: load is called
// for all of them before compute is called for the first.
template <int kPack, class Load, class Compute>
__device__ inline void ForPacks(int64_t width, Load load, Compute compute) {
  for (int64_t begin = threadIdx.x * kPack; begin < width; begin += kInFlight * kThreads * kPack) {
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int64_t j = begin + c * kThreads * kPack;
      if (j < width) load(j, c);
    }
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int64_t j = begin + c * kThreads * kPack;
      if (j < width) compute(j, c);
    }
  }
}

template <class T, int kPack>
UNIPOOL_KERNEL((kThreads), ForwardKernel, int64_t width, const T* gate_up, T* activation) {
  const T* gate_row = gate_up + blockIdx.x * 2 * width;
  const T* up_row = gate_row + width;
  T* activation_row = activation + blockIdx.x * width;
  Pack<T, kPack> gate[kInFlight], up[kInFlight];
  ForPacks<kPack>(
      width,
      [&](int64_t j, int c) {
        gate[c] = LoadPack<kPack>(gate_row + j);
        up[c] = LoadPack<kPack>(up_row + j);
      },
      [&](int64_t j, int c) {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float g = ToFloat(gate[c].value[e]);
          gate[c].value[e] = FromFloat<T>(g * Sigmoid(g) * ToFloat(up[c].value[e]));
        }
        StorePack(activation_row + j, gate[c]);
      });
}

// silu(g) = g * s(g), silu'(g) = s * (1 + g * (1 - s)) with s the sigmoid.
template <class T, int kPack>
UNIPOOL_KERNEL((kThreads), BackwardKernel, int64_t width, const T* gate_up, const T* dactivation, T* dgate_up,
               T* activation) {
  const int64_t at = blockIdx.x * width;
  const T* gate_row = gate_up + 2 * at;
  const T* up_row = gate_row + width;
  T* dgate_row = dgate_up + 2 * at;
  T* dup_row = dgate_row + width;
  Pack<T, kPack> gate[kInFlight], up[kInFlight], dactivation_packs[kInFlight];
  ForPacks<kPack>(
      width,
      [&](int64_t j, int c) {
        gate[c] = LoadPack<kPack>(gate_row + j);
        up[c] = LoadPack<kPack>(up_row + j);
        dactivation_packs[c] = LoadPack<kPack>(dactivation + at + j);
      },
      [&](int64_t j, int c) {
        Pack<T, kPack> product;
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float g = ToFloat(gate[c].value[e]), u = ToFloat(up[c].value[e]);
          const float da = ToFloat(dactivation_packs[c].value[e]);
          const float s = Sigmoid(g), silu = g * s;
          product.value[e] = FromFloat<T>(silu * u);
          gate[c].value[e] = FromFloat<T>(da * u * (s + silu * (1.0f - s)));
          up[c].value[e] = FromFloat<T>(da * silu);
        }
        StorePack(activation + at + j, product);
        StorePack(dgate_row + j, gate[c]);
        StorePack(dup_row + j, up[c]);
      });
}

}  // namespace

void SwigluForward(Stream& stream, const Tensor& gate_up, const Tensor& activation) {
  DispatchDevice("SwigluForward", activation.dtype, [&]<class T>() {
    const int64_t width = activation.dim(1);
    const LaunchShape shape = {.grid = static_cast<unsigned>(activation.rows()), .block = kThreads};
    const bool packs = RowsAllowPacks(width, {&gate_up, &activation});
    Launch("SwigluForward", packs ? &ForwardKernel<T, kPackOf16<T>> : &ForwardKernel<T, 1>, shape, stream,
           width, gate_up.as<T>(), activation.as<T>());
  });
}

void SwigluBackward(Stream& stream, const Tensor& gate_up, const Tensor& dactivation, const Tensor& dgate_up,
                    const Tensor& activation) {
  DispatchDevice("SwigluBackward", activation.dtype, [&]<class T>() {
    const int64_t width = activation.dim(1);
    const LaunchShape shape = {.grid = static_cast<unsigned>(activation.rows()), .block = kThreads};
    const bool packs = RowsAllowPacks(width, {&gate_up, &dactivation, &dgate_up, &activation});
    Launch("SwigluBackward", packs ? &BackwardKernel<T, kPackOf16<T>> : &BackwardKernel<T, 1>, shape, stream,
           width, gate_up.as<T>(), dactivation.as<T>(), dgate_up.as<T>(), activation.as<T>());
  });
}

}  // namespace unipool::cuda
