// CUDA launchers of reduce.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

namespace unipool::cuda {
enum class SumOf { kValues, kSquares };
}
UNIPOOL_CUDA_LAUNCHER(AddSum, Stream& stream, SumOf what, const Tensor& x, const Tensor& sum)
// Waits for the stream.
UNIPOOL_CUDA_LAUNCHER(ReadSum, Stream& stream, SumOf what, const Tensor& x, double& sum)
UNIPOOL_CUDA_LAUNCHER(AddInPlace, Stream& stream, const Tensor& x, const Tensor& y)
UNIPOOL_CUDA_LAUNCHER(Fill, Stream& stream, const Tensor& x, double value)
UNIPOOL_CUDA_LAUNCHER(Copy, Stream& stream, const Tensor& src, const Tensor& dst)
