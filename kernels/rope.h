// Rotary position embedding (arXiv 2104.09864) in the Hugging Face convention: dims i and i + d/2 of a head
// form a pair, rotated by position * base^(-2i/d). Types: qkv F32 or F64 on the CPU, F32 or BF16 (computed in
// F32) on CUDA; the tables in AccumulatorOf(its dtype).
#pragma once

#include "kernels/attention.h"
#include "runtime/stream.h"

namespace unipool {

// cos and sin of every position, in memory of the host: tables [s, d/2], F32 or F64.
void FillRopeTables(double base, const Tensor& cos, const Tensor& sin);

enum class RopeDirection : int8_t {
  kForward = 1,
  kBackward = -1
};  // the backward rotates by the negative angle
// Rotates the query and key heads of qkv [T, (H + 2G) d] in place; row t has position first_position + t mod
// s. Moves 2 T (H + G) d elements and the tables' rows once.
void Rope(Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
          RopeDirection direction, const Tensor& qkv, int64_t first_position = 0);

}  // namespace unipool
