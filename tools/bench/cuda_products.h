// Rows of the experts' grouped products. Beside each stand one dense product of the same total size, which is
// the best that the grouped call could be, and a loop of one product an expert, which it must beat. Weight
// gradients are measured for one slot and for several. Without cuBLAS only the grouped calls that are our own
// kernels are measured.
#pragma once

#include "tools/bench/cuda_timing.h"

namespace unipool {

void BenchProducts(CudaBench& bench);

}  // namespace unipool
