// CUDA launcher of rank_sum.h. Rank and stride have been checked.
#pragma once

#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(SumInRankOrder, Stream& stream, const Tensor& own, const void* parts, int64_t stride,
                      int rank, int size)
