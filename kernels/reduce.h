// Elementwise sums, norms, fills and copies with a fixed order: the result depends on the values and sizes
// alone (on CUDA also not on the device).
// Types: F32 and F64 on the CPU. On CUDA F32 and BF16, and F64 for sums; terms are added in double, a few
// neighbours first in their own type.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Accumulated in double, in blocks. Reads x once. On CUDA these wait until all work of the stream is done and
// the number has been copied to the host: once a step at most; AddSumOfSquares and AddSum never wait.
double SumOfSquares(Stream& stream, const Tensor& x);
double Sum(Stream& stream, const Tensor& x);
// The same, where the number stays on the stream's device: sum += . Several tensors are summed by a call each
// after Fill(stream, sum, 0).
void AddSumOfSquares(Stream& stream, const Tensor& x, const Tensor& sum /*[1] F64*/);
void AddSum(Stream& stream, const Tensor& x, const Tensor& sum /*[1] F64*/);

// y += x. On CUDA x and y may be F32 or BF16 each. Moves x once and y twice.
void AddInPlace(Stream& stream, const Tensor& x, const Tensor& y);
// Every type. Moves x once.
void Fill(Stream& stream, const Tensor& x, double value);
// Same size; same type, or F32 to BF16 (to nearest, ties to even) or back. Both on the stream's device. Moves
// src and dst once.
void Copy(Stream& stream, const Tensor& src, const Tensor& dst);

}  // namespace unipool
