// CUDA launchers of swiglu.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(SwigluForward, Stream& stream, const Tensor& gate_up, const Tensor& activation)
UNIPOOL_CUDA_LAUNCHER(SwigluBackward, Stream& stream, const Tensor& gate_up, const Tensor& dactivation,
                      const Tensor& dgate_up, const Tensor& activation)
