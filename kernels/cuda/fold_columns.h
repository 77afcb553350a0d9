// Adds up what blocks left for each column, in a fixed order.
#pragma once

#include "kernels/cuda/device.h"

namespace unipool::cuda {

inline constexpr int kFoldRows = 32;

// sums[j] += sum over b of partial[b, j], in the type of `sums`. Block (32, kFoldRows): a thread per column
// and every kFoldRows-th row.
template <class Sum>
UNIPOOL_KERNEL((kWarp * kFoldRows), FoldColumnsKernel, int64_t num_partials, int64_t width,
               const float* partial, Sum* sums) {
  UNIPOOL_SHARED(Sum, shares, [kFoldRows][kWarp]);
  const int64_t j = int64_t{blockIdx.x} * kWarp + threadIdx.x;
  Sum share = 0;
  if (j < width) {
#pragma unroll 8
    for (int64_t b = threadIdx.y; b < num_partials; b += kFoldRows) share += partial[b * width + j];
  }
  shares[threadIdx.y][threadIdx.x] = share;
  __syncthreads();
  if (threadIdx.y != 0 || j >= width) return;
  Sum sum = 0;
  for (int r = 0; r < kFoldRows; ++r) sum += shares[r][threadIdx.x];
  sums[j] += sum;
}

template <class Sum>
void FoldColumns(const char* name, Stream& stream, int64_t num_partials, int64_t width, const float* partial,
                 Sum* sums) {
  Launch(name, &FoldColumnsKernel<Sum>,
         {.grid = static_cast<unsigned>(CeilDiv(width, kWarp)), .block = dim3(kWarp, kFoldRows)}, stream,
         num_partials, width, partial, sums);
}

}  // namespace unipool::cuda
