// Rows of the kernels around exchanges between ranks: kernels/row_order.h, copy_segments.h and rank_sum.h.
#pragma once

#include "tools/bench/cuda_timing.h"

namespace unipool {

void BenchExchanges(CudaBench& bench);

}  // namespace unipool
