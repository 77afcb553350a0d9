// CUDA launcher of embedding.h; the forward is a gather of rows (permute_cuda.h). Shapes and types have been
// checked.
#pragma once

#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(EmbeddingBackward, Stream& stream, const Tensor& tokens, const Tensor& dout,
                      const Tensor& dtable)
