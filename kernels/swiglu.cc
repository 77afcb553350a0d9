#include "kernels/swiglu.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/bf16_bits.h"
#include "kernels/cpu/fast_exp.h"
#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

template <class T>
T Sigmoid(T x) {
  return T(1) / (T(1) + FastExp(-x));
}

// What is written: T itself, or the bits of BF16.
template <class T>
void Put(T& out, T value) {
  out = value;
}
inline void Put(uint16_t& out, float value) {
  out = RoundToBf16(value);
}

template <class T, class Out>
void ForwardRow(int64_t width, const T* gate, const T* up, Out* activation) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) Put(activation[j], gate[j] * Sigmoid(gate[j]) * up[j]);
}

// silu(g) = g * s(g), silu'(g) = s * (1 + g * (1 - s)) with s the sigmoid.
template <class T, class Out>
void BackwardRow(int64_t width, const T* gate, const T* up, const T* dactivation, Out* dgate, Out* dup,
                 Out* activation) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) {
    const T g = gate[j], u = up[j], da = dactivation[j];
    const T s = Sigmoid(g);
    const T silu = g * s;
    Put(activation[j], silu * u);
    Put(dup[j], da * silu);
    Put(dgate[j], da * u * (s + silu * (T(1) - s)));
  }
}

// BF16 results of F32 numbers, on the CPU.
bool Rounds(const Stream& stream, const Tensor& gate_up, const Tensor& activation) {
  return stream.device() == Device::kCpu && gate_up.dtype == DType::kF32 && activation.dtype == DType::kBF16;
}

// body.operator()<T, Out>() for the types of numbers and of results.
template <class Body>
void DispatchResult(bool rounds, DType dtype, Body&& body) {
  if (rounds) return body.template operator()<float, uint16_t>();
  DispatchFloat(dtype, [&]<class T>() { body.template operator()<T, T>(); });
}

constexpr double kForwardFlops = kFastExpFlops + 4, kBackwardFlops = kFastExpFlops + 10;

}  // namespace

void SwigluForward(Stream& stream, const Tensor& gate_up, const Tensor& activation) {
  const int64_t rows = activation.rows(), width = activation.dim(1);
  CheckTensor("SwigluForward activation", activation, activation.dtype, {rows, width});
  const bool rounds = Rounds(stream, gate_up, activation);
  CheckTensor("SwigluForward gate_up", gate_up, rounds ? DType::kF32 : activation.dtype, {rows, 2 * width});
  KernelScope scope(stream, Op::kSwiglu, kForwardFlops * activation.size(),
                    gate_up.bytes() + activation.bytes());
  if (stream.device() == Device::kCuda) return cuda::SwigluForward(stream, gate_up, activation);
  DispatchResult(rounds, gate_up.dtype, [&]<class T, class Out>() {
    Out* const out = static_cast<Out*>(activation.data);
    for (int64_t r = 0; r < rows; ++r) {
      const T* gate = gate_up.as<T>() + r * 2 * width;
      ForwardRow(width, gate, gate + width, out + r * width);
    }
  });
}

void SwigluBackward(Stream& stream, const Tensor& gate_up, const Tensor& dactivation, const Tensor& dgate_up,
                    const Tensor& activation) {
  const int64_t rows = activation.rows(), width = activation.dim(1);
  CheckTensor("SwigluBackward activation", activation, activation.dtype, {rows, width});
  const bool rounds = Rounds(stream, gate_up, activation);
  const DType given = rounds ? DType::kF32 : activation.dtype;
  CheckTensor("SwigluBackward gate_up", gate_up, given, {rows, 2 * width});
  CheckTensor("SwigluBackward dactivation", dactivation, given, {rows, width});
  CheckTensor("SwigluBackward dgate_up", dgate_up, activation.dtype, {rows, 2 * width});
  KernelScope scope(stream, Op::kSwiglu, kBackwardFlops * activation.size(),
                    gate_up.bytes() + dactivation.bytes() + dgate_up.bytes() + activation.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::SwigluBackward(stream, gate_up, dactivation, dgate_up, activation);
  }
  DispatchResult(rounds, gate_up.dtype, [&]<class T, class Out>() {
    for (int64_t r = 0; r < rows; ++r) {
      const T* gate = gate_up.as<T>() + r * 2 * width;
      Out* dgate = static_cast<Out*>(dgate_up.data) + r * 2 * width;
      BackwardRow(width, gate, gate + width, dactivation.as<T>() + r * width, dgate, dgate + width,
                  static_cast<Out*>(activation.data) + r * width);
    }
  });
}

}  // namespace unipool
