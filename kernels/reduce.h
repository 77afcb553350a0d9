// Elementwise sums and norms with a fixed order: the result depends on the values and sizes alone.
#pragma once

#include "runtime/stream.h"

namespace unipool {

double SumOfSquares(Stream& stream, const Tensor& x);               // accumulated in double, in blocks
double Sum(Stream& stream, const Tensor& x);                        // likewise
void AddInPlace(Stream& stream, const Tensor& x, const Tensor& y);  // y += x
void Fill(Stream& stream, const Tensor& x, double value);
void Copy(Stream& stream, const Tensor& src, const Tensor& dst);  // same dtype and size

}  // namespace unipool
