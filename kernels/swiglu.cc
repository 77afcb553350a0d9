#include "kernels/swiglu.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/fast_exp.h"
#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

template <class T>
T Sigmoid(T x) {
  return T(1) / (T(1) + FastExp(-x));
}

template <class T>
void ForwardRow(int64_t width, const T* gate, const T* up, T* activation) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) activation[j] = gate[j] * Sigmoid(gate[j]) * up[j];
}

// silu(g) = g * s(g), silu'(g) = s * (1 + g * (1 - s)) with s the sigmoid.
template <class T>
void BackwardRow(int64_t width, const T* gate, const T* up, const T* dactivation, T* dgate, T* dup,
                 T* activation) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) {
    const T g = gate[j], u = up[j], da = dactivation[j];
    const T s = Sigmoid(g);
    const T silu = g * s;
    activation[j] = silu * u;
    dup[j] = da * silu;
    dgate[j] = da * u * (s + silu * (T(1) - s));
  }
}

constexpr double kForwardFlops = kFastExpFlops + 4, kBackwardFlops = kFastExpFlops + 10;

}  // namespace

void SwigluForward(Stream& stream, const Tensor& gate_up, const Tensor& activation) {
  const int64_t rows = activation.rows(), width = activation.dim(1);
  CheckTensor("SwigluForward activation", activation, activation.dtype, {rows, width});
  CheckTensor("SwigluForward gate_up", gate_up, activation.dtype, {rows, 2 * width});
  KernelScope scope(stream, Op::kSwiglu, kForwardFlops * activation.size(),
                    gate_up.bytes() + activation.bytes());
  if (stream.device() == Device::kCuda) return cuda::SwigluForward(stream, gate_up, activation);
  DispatchFloat(activation.dtype, [&]<class T>() {
    for (int64_t r = 0; r < rows; ++r) {
      const T* gate = gate_up.as<T>() + r * 2 * width;
      ForwardRow(width, gate, gate + width, activation.as<T>() + r * width);
    }
  });
}

void SwigluBackward(Stream& stream, const Tensor& gate_up, const Tensor& dactivation, const Tensor& dgate_up,
                    const Tensor& activation) {
  const int64_t rows = activation.rows(), width = activation.dim(1);
  CheckTensor("SwigluBackward activation", activation, activation.dtype, {rows, width});
  CheckTensor("SwigluBackward gate_up", gate_up, activation.dtype, {rows, 2 * width});
  CheckTensor("SwigluBackward dactivation", dactivation, activation.dtype, {rows, width});
  CheckTensor("SwigluBackward dgate_up", dgate_up, activation.dtype, {rows, 2 * width});
  KernelScope scope(stream, Op::kSwiglu, kBackwardFlops * activation.size(),
                    2.0 * gate_up.bytes() + 2.0 * activation.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::SwigluBackward(stream, gate_up, dactivation, dgate_up, activation);
  }
  DispatchFloat(activation.dtype, [&]<class T>() {
    for (int64_t r = 0; r < rows; ++r) {
      const T* gate = gate_up.as<T>() + r * 2 * width;
      T* dgate = dgate_up.as<T>() + r * 2 * width;
      BackwardRow(width, gate, gate + width, dactivation.as<T>() + r * width, dgate, dgate + width,
                  activation.as<T>() + r * width);
    }
  });
}

}  // namespace unipool
