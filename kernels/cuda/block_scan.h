// Sums over everything in front, by one block.
#pragma once

#include "kernels/cuda/device.h"

namespace unipool::cuda {

// first[i] = counts[0] + ... + counts[i - 1] for i in [0, n): each of kThreads threads takes neighbours.
// Block: kThreads, a multiple of a warp, in x. `counts` may be global or shared memory, and so may `first`,
// which is not `counts`. REQUIRES: a barrier before other threads read `first`, and before the block's next
// call.
template <int kThreads>
__device__ inline void ScanInBlock(int n, const int32_t* counts, int32_t* first) {
  static_assert(kThreads % kWarp == 0);
  UNIPOOL_SHARED(int, warp_sums, [kThreads / kWarp]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int length = (n + kThreads - 1) / kThreads;
  const int begin = min(thread * length, n), end = min(begin + length, n);
  int own = 0;
  for (int i = begin; i < end; ++i) own += counts[i];
  int upto = own;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const int lower = __shfl_up_sync(kFullWarp, upto, step);
    if (lane >= step) upto += lower;
  }
  if (lane == kWarp - 1) warp_sums[warp] = upto;
  __syncthreads();
  int before = upto - own;
  for (int w = 0; w < warp; ++w) before += warp_sums[w];
  for (int i = begin; i < end; ++i) {
    first[i] = before;
    before += counts[i];
  }
}

}  // namespace unipool::cuda
