// The sum over ranks, in rank order, of parts that have arrived here.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// own[i] = x_0[i] + x_1[i] + ... + x_{size-1}[i], added in this order in the values' own type, where x_r lies
// at `parts` + r * stride bytes (what lies there for r = rank is not read) and x_rank is `own` itself. F32,
// F64, I32, I64 on the CPU; F32 and F64 on CUDA, the same bits. Moves size + 1 arrays.
void SumInRankOrder(Stream& stream, const Tensor& own /*[n]*/, const void* parts, int64_t stride, int rank,
                    int size);

}  // namespace unipool
