// Token embedding. Tokens are I32 in [0, V); out-of-range is a bug here (data is checked where it is read).
#pragma once

#include "runtime/stream.h"

namespace unipool {

void EmbeddingForward(Stream& stream, const Tensor& tokens /*[T] I32*/, const Tensor& table /*[V, D]*/,
                      const Tensor& out /*[T, D]*/);
// dtable[tokens[t]] += dout[t], in the order of t.
void EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dout,
                       const Tensor& dtable /*[V, D]*/);

}  // namespace unipool
