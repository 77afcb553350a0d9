// Sums, fills and copies. The order of a sum is fixed, so the result depends on the values and sizes alone;
// on CUDA it does not depend on the device either.
// Types: F32 and F64 on the CPU. On CUDA F32 and BF16, and F64 for sums. Terms are added in double. On CUDA a
// few neighbours are added first: BF16 and F32 terms in F32, F64 terms in F64.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// sum += the sum of the squares of x, or of x. `sum` is on the stream's device, and the host never waits.
// Terms are accumulated in double, in blocks. Reads x once. To sum several tensors, call Fill(stream, sum, 0)
// and then this for each.
void AddSumOfSquares(Stream& stream, const Tensor& x, const Tensor& sum /*[1] F64*/);
void AddSum(Stream& stream, const Tensor& x, const Tensor& sum /*[1] F64*/);
int64_t AddSumScratchBytes(Device device);

// x = value, for every type. Moves x once.
void Fill(Stream& stream, const Tensor& x, double value);
// x = max(x, least), where x is a number. F32 and F64 on the CPU, F32 on CUDA. Moves x twice.
void RaiseToLeast(Stream& stream, const Tensor& x, double least);
// dst = src. They have the same size, and the same type or F32 and BF16 (rounded to nearest, ties to even).
// Both are on the stream's device. Moves src and dst once.
void Copy(Stream& stream, const Tensor& src, const Tensor& dst);

}  // namespace unipool
