// Rows of the kernels around exchanges between ranks: the order of rows, segments, sums of ranks' parts.
#pragma once

#include "tools/bench/cuda_timing.h"

namespace unipool {

void BenchExchanges(CudaBench& bench);

}  // namespace unipool
