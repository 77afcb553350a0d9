// F32 as the sum of two BF16, for products on BF16 matrix units that keep 16 bits of a factor.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// high is x rounded to BF16 (to nearest, ties to even), and low is x - high rounded to BF16. CUDA only. Moves
// x and both results once.
void SplitBf16(Stream& stream, const Tensor& x /*F32*/, const Tensor& high /*BF16*/,
               const Tensor& low /*BF16*/);

}  // namespace unipool
