// Rotary position embedding (arXiv 2104.09864) in the Hugging Face convention. Elements i and i + d/2 of a
// head form a pair, which is rotated by position * base^(-2i/d). qkv is F32 or F64 on the CPU, and F32 or
// BF16 (computed in F32) on CUDA. The tables are in AccumulatorOf(qkv's type). s is the sequence length.
#pragma once

#include "kernels/attention.h"
#include "runtime/stream.h"

namespace unipool {

// Fills cos and sin [s, d/2] of every position, in memory of the host. F32 or F64.
void FillRopeTables(double base, const Tensor& cos, const Tensor& sin);

// The backward rotates by the negative angle.
enum class RopeDirection : int8_t { kForward = 1, kBackward = -1 };
// Rotates the query and key heads of qkv [T, (H + 2G) d] in place. Row t has position
// first_position + t mod s. Moves 2 T (H + G) d elements and the tables' rows once.
void Rope(Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
          RopeDirection direction, const Tensor& qkv, int64_t first_position = 0);

}  // namespace unipool
