// Causal grouped-query attention. T = num_sequences * sequence_length rows; a row of qkv holds H query heads,
// then G key heads, then G value heads, each of size d; query head h reads key/value head h / (H / G). Scores
// are scaled by 1/sqrt(d). Works in tiles of query rows: a [s, s] matrix never exists. lse keeps log-sum-exp
// per row and head. Types: qkv, out, their gradients and the cache in one dtype, lse in its AccumulatorOf:
// F32 and F64 on the CPU; F32 and BF16 on CUDA, where scores and sums are F32.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Larger heads are refused on CUDA. Heads are computed as of size 32, 64, 96 or 128: others cost as the next
// of these. Sizes that are multiples of 8 (BF16) or 4 (F32) move in 16-byte accesses.
inline constexpr int64_t kMostCudaHeadSize = 128;

struct AttentionShape {
  int64_t num_sequences = 0, sequence_length = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_size = 0;  // H, G, d
  int64_t tokens() const { return num_sequences * sequence_length; }
  int64_t qkv_size() const { return (num_heads + 2 * num_kv_heads) * head_size; }
  int64_t out_size() const { return num_heads * head_size; }
};

// With p = T (s + 1) / 2 * H pairs of tokens: 4 p d operations; moves qkv, out and lse once.
void AttentionForward(Stream& stream, const AttentionShape& shape, const Tensor& qkv /*[T, (H+2G)d]*/,
                      const Tensor& out /*[T, H d]*/, const Tensor& lse /*[T, H]*/);
// Probabilities are recomputed from qkv and lse: 10 p d operations (CUDA does 14 p d, it computes them once
// for the queries and once for the keys and values, so that no order of sums is left to chance); moves qkv,
// out, dout, lse and dqkv once. CUDA's scratch memory: 8 T H bytes.
void AttentionBackward(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& lse, const Tensor& dout /*[T, H d]*/,
                       const Tensor& dqkv /*[T, (H+2G)d]*/);

// What the backward on the CPU takes of the stream's scratch memory, which is more than the forward takes.
int64_t AttentionScratchBytes(const AttentionShape& shape, DType dtype);

// One new query row per call against cached keys and values, for generation: qkv [1, (H+2G)d] already
// rotated; appends its key and value at `position` of the cache [max_positions, 2 G d] (keys, then values)
// and attends to 0..position. With n = position + 1: 4 n H d operations; moves the keys and values up to
// position, 2 n G d elements, once. CUDA's scratch memory: 4 H (d + 2) bytes for every 256 keys, at most 64
// times that.
void AttentionDecode(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& cache,
                     int64_t position, const Tensor& out /*[1, H d]*/);

}  // namespace unipool
