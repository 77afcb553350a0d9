// CUDA launchers of permute.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(GatherRows, Stream& stream, const Tensor& src, const Tensor& index, const Tensor& dst)
UNIPOOL_CUDA_LAUNCHER(ScatterRows, Stream& stream, const Tensor& src, const Tensor& index, const Tensor& dst)
// weights are empty where all are 1.
UNIPOOL_CUDA_LAUNCHER(CombineRows, Stream& stream, const Tensor& rows, const Tensor& row_of,
                      const Tensor& weights, const Tensor& residual, const Tensor& out)
UNIPOOL_CUDA_LAUNCHER(CombineRowsBackward, Stream& stream, const Tensor& dout, const Tensor& rows,
                      const Tensor& row_of, const Tensor& weights, const Tensor& drows,
                      const Tensor& dweights)
