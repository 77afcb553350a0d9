// The benchmark's rows of experts' products, each beside one dense product of the same total size (what it
// could be at best) and beside one product an expert in a loop (what the grouped call must beat). Without
// cuBLAS only the grouped calls that are our own kernels. Weight gradients of one and of several slots, by
// slot.
#pragma once

#include "tools/bench/cuda_timing.h"

namespace unipool {

void BenchProducts(CudaBench& bench);

}  // namespace unipool
