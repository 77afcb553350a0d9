// Token embedding. Tokens are I32 in [0, V). A token outside is a bug here, because data is checked where it
// is read. Types: on the CPU all F32 or all F64. On CUDA table, out and dout may be F32 or BF16 each, and
// dtable is in AccumulatorOf(dout's type).
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Moves T D elements of the table, T D of out and the tokens.
void EmbeddingForward(Stream& stream, const Tensor& tokens /*[T] I32*/, const Tensor& table /*[V, D]*/,
                      const Tensor& out /*[T, D]*/);
// dtable[tokens[t]] += dout[t]. On the CPU the rows of one token are added in the order of t. On CUDA their
// order depends on the tokens alone. The number of warps that add does not depend on how often a token
// repeats. Moves T D elements of dout, twice the rows of dtable that occur, and the tokens. CUDA also moves T
// sorted keys of 8 bytes, and finds their order in T^2 / 100 steps in shared memory.
void EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dout /*[T, D]*/,
                       const Tensor& dtable /*[V, D]*/);
int64_t EmbeddingBackwardScratchBytes(Device device, int64_t num_tokens /*T*/, int64_t width /*D*/);

}  // namespace unipool
