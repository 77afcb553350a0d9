// The sum over ranks, in rank order, of parts that have arrived here.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// own[i] = x_0[i] + x_1[i] + ... + x_{size-1}[i], added in this order in the type of `own`. x_rank is `own`
// itself. Every other x_r lies `r * stride` bytes behind `parts`; what lies there for r = rank is not read.
// Example of 2 ranks: rank 1 has x_1 in `own` and x_0 at `parts`, and own becomes x_0 + x_1 on both ranks.
// F32, F64, I32, I64 on the CPU. F32 and F64 on CUDA, with the same bits. Moves size + 1 arrays.
void SumInRankOrder(Stream& stream, const Tensor& own /*[n]*/, const void* parts, int64_t stride, int rank,
                    int size);

}  // namespace unipool
