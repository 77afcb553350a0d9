// RMSNorm (arXiv 1910.07467): y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + eps).
#pragma once

#include "runtime/stream.h"

namespace unipool {

void RmsNormForward(Stream& stream, const Tensor& x /*[T, D]*/, const Tensor& weight /*[D]*/, double eps,
                    const Tensor& y /*[T, D]*/, const Tensor& inv_rms /*[T]*/);
// dx = residual_grad + (gradient through the norm); dweight += . residual_grad may be the same memory as dx.
void RmsNormBackward(Stream& stream, const Tensor& x, const Tensor& weight, const Tensor& inv_rms,
                     const Tensor& dy /*[T, D]*/, const Tensor& residual_grad /*[T, D]*/,
                     const Tensor& dx /*[T, D]*/, const Tensor& dweight /*[D]*/);

}  // namespace unipool
