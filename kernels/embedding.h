// Token embedding. Tokens are I32 in [0, V); out-of-range is a bug here (data is checked where it is read).
// Types: on the CPU all F32 or all F64. On CUDA table and out may be F32 or BF16 each; dout F32 or BF16;
// dtable in AccumulatorOf(dout's type).
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Moves T D elements of the table, T D of out and the tokens.
void EmbeddingForward(Stream& stream, const Tensor& tokens /*[T] I32*/, const Tensor& table /*[V, D]*/,
                      const Tensor& out /*[T, D]*/);
// dtable[tokens[t]] += dout[t]. Rows of one token are added in the order of t on the CPU; on CUDA in an order
// that depends on the tokens alone, by as many warps if all tokens are one as if each is another. Moves T D
// elements of dout, twice the rows of dtable that occur, and the tokens; on CUDA also T sorted keys of 8
// bytes, and finding their order takes T^2 / 100 steps in shared memory.
void EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dout /*[T, D]*/,
                       const Tensor& dtable /*[V, D]*/);

}  // namespace unipool
