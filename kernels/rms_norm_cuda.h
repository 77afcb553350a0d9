// CUDA launchers of rms_norm.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

// delta and sum are empty without a residual.
UNIPOOL_CUDA_LAUNCHER(RmsNormForward, Stream& stream, const Tensor& x, const Tensor& delta,
                      const Tensor& weight, double eps, const Tensor& sum, const Tensor& y,
                      const Tensor& inv_rms)
UNIPOOL_CUDA_LAUNCHER(RmsNormBackward, Stream& stream, const Tensor& x, const Tensor& weight,
                      const Tensor& inv_rms, const Tensor& dy, const Tensor& residual_grad, const Tensor& dx,
                      const Tensor& dweight)
