// CUDA launcher of rope.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"
#include "kernels/rope.h"

UNIPOOL_CUDA_LAUNCHER(Rope, Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
                      RopeDirection direction, const Tensor& qkv, int64_t first_position)
