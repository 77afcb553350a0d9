// CUDA launcher of split_bf16.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(SplitBf16, Stream& stream, const Tensor& x, const Tensor& high, const Tensor& low)
