// Rotary position embedding (arXiv 2104.09864) in the Hugging Face convention: dims i and i + d/2 of a head
// form a pair, rotated by position * base^(-2i/d).
#pragma once

#include "kernels/attention.h"
#include "runtime/stream.h"

namespace unipool {

// cos and sin of every position: tables [s, d/2] of the given dtype.
void FillRopeTables(double base, const Tensor& cos, const Tensor& sin);

enum class RopeDirection : int8_t {
  kForward = 1,
  kBackward = -1
};  // the backward rotates by the negative angle
// Rotates the query and key heads of qkv [T, (H + 2G) d] in place; row t has position first_position + t mod
// s.
void Rope(Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
          RopeDirection direction, const Tensor& qkv, int64_t first_position = 0);

}  // namespace unipool
