// Elementwise sums, norms, fills and copies with a fixed order: the result depends on the values and sizes
// alone (on CUDA also not on the device).
// Types: F32 and F64 on the CPU. On CUDA F32 and BF16, and F64 for sums; terms are added in double, a few
// neighbours first in their own type.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// sum += the sum of x, or of the squares of x, where `sum` is on the stream's device and the host never waits.
// Accumulated in double, in blocks. Reads x once. Several tensors are summed by a call each after
// Fill(stream, sum, 0).
void AddSumOfSquares(Stream& stream, const Tensor& x, const Tensor& sum /*[1] F64*/);
void AddSum(Stream& stream, const Tensor& x, const Tensor& sum /*[1] F64*/);

// Every type. Moves x once.
void Fill(Stream& stream, const Tensor& x, double value);
// Same size; same type, or F32 to BF16 (to nearest, ties to even) or back. Both on the stream's device. Moves
// src and dst once.
void Copy(Stream& stream, const Tensor& src, const Tensor& dst);

}  // namespace unipool
