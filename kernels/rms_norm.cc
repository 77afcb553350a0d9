#include "kernels/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/check_tensor.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"

namespace unipool {
namespace {

// One row; returns 1 / rms.
template <class T>
T NormalizeRow(int64_t width, const T* x, const T* weight, T eps, T* y) {
  const T sum = VectorSum<T>(width, [=](auto at) { return at(x) * at(x); });
  const T inv_rms = T(1) / std::sqrt(sum / static_cast<T>(width) + eps);
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) y[j] = x[j] * inv_rms * weight[j];
  return inv_rms;
}

// With n = x * inv_rms and g = weight * dy:  dx = inv_rms * (g - n * mean(g * n)),  dweight += dy * n.
template <class T>
void RowGradient(int64_t width, const T* x, const T* weight, T inv_rms, const T* dy, const T* residual, T* dx,
                 T* dweight) {
  const T dot = VectorSum<T>(width, [=](auto at) { return at(weight) * at(dy) * at(x); });
  const T x_factor = inv_rms * inv_rms * inv_rms * dot / static_cast<T>(width);
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) {
    dweight[j] += dy[j] * (x[j] * inv_rms);
    dx[j] = residual[j] + (weight[j] * dy[j] * inv_rms - x[j] * x_factor);
  }
}

}  // namespace

void RmsNormForward(Stream& stream, const Tensor& x, const Tensor& weight, double eps, const Tensor& y,
                    const Tensor& inv_rms) {
  const int64_t rows = x.rows(), width = x.dim(1);
  CheckTensor("RmsNormForward x", x, x.dtype, {rows, width});
  CheckTensor("RmsNormForward weight", weight, x.dtype, {width});
  CheckTensor("RmsNormForward y", y, x.dtype, {rows, width});
  CheckTensor("RmsNormForward inv_rms", inv_rms, AccumulatorOf(x.dtype), {rows});
  KernelScope scope(stream, Op::kRmsNorm, 4.0 * x.size(), 2.0 * x.bytes() + weight.bytes() + inv_rms.bytes());
  if (stream.device() == Device::kCuda) return cuda::RmsNormForward(stream, x, weight, eps, y, inv_rms);
  DispatchFloat(x.dtype, [&]<class T>() {
    for (int64_t t = 0; t < rows; ++t) {
      inv_rms.as<T>()[t] = NormalizeRow(width, x.as<T>() + t * width, weight.as<T>(), static_cast<T>(eps),
                                        y.as<T>() + t * width);
    }
  });
}

int64_t RmsNormBackwardScratchBytes(Device device, int64_t num_rows, int64_t width) {
  if (device != Device::kCuda) return 0;
  return std::min(cuda::kMostNormPartials, num_rows) * width * int64_t{sizeof(float)};
}

void RmsNormBackward(Stream& stream, const Tensor& x, const Tensor& weight, const Tensor& inv_rms,
                     const Tensor& dy, const Tensor& residual_grad, const Tensor& dx, const Tensor& dweight) {
  const int64_t rows = x.rows(), width = x.dim(1);
  CheckTensor("RmsNormBackward x", x, x.dtype, {rows, width});
  CheckTensor("RmsNormBackward weight", weight, x.dtype, {width});
  CheckTensor("RmsNormBackward inv_rms", inv_rms, AccumulatorOf(x.dtype), {rows});
  CheckTensor("RmsNormBackward dy", dy, x.dtype, {rows, width});
  CheckTensor("RmsNormBackward residual_grad", residual_grad, x.dtype, {rows, width});
  CheckTensor("RmsNormBackward dx", dx, x.dtype, {rows, width});
  CheckTensor("RmsNormBackward dweight", dweight, AccumulatorOf(x.dtype), {width});
  KernelScope scope(stream, Op::kRmsNorm, 11.0 * x.size(),
                    4.0 * x.bytes() + weight.bytes() + 2.0 * dweight.bytes() + inv_rms.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::RmsNormBackward(stream, x, weight, inv_rms, dy, residual_grad, dx, dweight);
  }
  DispatchFloat(x.dtype, [&]<class T>() {
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t at = t * width;
      RowGradient(width, x.as<T>() + at, weight.as<T>(), inv_rms.as<T>()[t], dy.as<T>() + at,
                  residual_grad.as<T>() + at, dx.as<T>() + at, dweight.as<T>());
    }
  });
}

}  // namespace unipool
