// RMSNorm (arXiv 1910.07467): y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + eps).
// Types: x, weight, y, dy, residual_grad and dx have one dtype; inv_rms and dweight are in its AccumulatorOf.
// F32 and F64 on the CPU. F32 and BF16 on CUDA, where sums are F32.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Moves 2 T D elements (x, y), the weight and inv_rms.
void RmsNormForward(Stream& stream, const Tensor& x /*[T, D]*/, const Tensor& weight /*[D]*/, double eps,
                    const Tensor& y /*[T, D]*/, const Tensor& inv_rms /*[T]*/);
// dx = residual_grad + (gradient through the norm), and dweight += its gradient. residual_grad may be the
// same memory as dx. Moves 4 T D elements (x, dy, residual_grad, dx), the weight, dweight twice and inv_rms.
// Rows are summed into dweight in an order that depends on T and D alone.
void RmsNormBackward(Stream& stream, const Tensor& x, const Tensor& weight, const Tensor& inv_rms,
                     const Tensor& dy /*[T, D]*/, const Tensor& residual_grad /*[T, D]*/,
                     const Tensor& dx /*[T, D]*/, const Tensor& dweight /*[D]*/);
int64_t RmsNormBackwardScratchBytes(Device device, int64_t num_rows /*T*/, int64_t width /*D*/);

}  // namespace unipool
