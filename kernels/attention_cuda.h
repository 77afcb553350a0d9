// CUDA launchers of attention.h. Shapes and types have been checked.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(AttentionForward, Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      const Tensor& out, const Tensor& lse)
UNIPOOL_CUDA_LAUNCHER(AttentionBackward, Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      const Tensor& out, const Tensor& lse, const Tensor& dout, const Tensor& dqkv)
UNIPOOL_CUDA_LAUNCHER(AttentionDecode, Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      const Tensor& cache, int64_t position, const Tensor& out)
