// CUDA launcher of cross_entropy.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(CrossEntropy, Stream& stream, const Tensor& logits, const Tensor& targets,
                      double grad_scale, const Tensor& losses)
