// Causal grouped-query attention. There are T = num_sequences * sequence_length rows. A row of qkv holds H
// query heads, then G key heads, then G value heads, each of size d. Query head h reads key and value head
// h / (H / G). Scores are scaled by 1/sqrt(d). The work is done in tiles of query rows, so a matrix [s, s]
// never exists. lse keeps the log-sum-exp of each row and head.
// Types: qkv, out, their gradients and the cache have one dtype, and lse is in its AccumulatorOf. F32 and F64
// on the CPU. F32 and BF16 on CUDA, where scores and sums are F32.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Larger heads are refused on CUDA. Heads of size 32, 64, 96 and 128 are computed as they are, and any other
// size costs as much as the next of these. Multiples of 8 (BF16) or 4 (F32) move in 16-byte accesses.
inline constexpr int64_t kMostCudaHeadSize = 128;

struct AttentionShape {
  int64_t num_sequences = 0, sequence_length = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_size = 0;  // H, G, d
  int64_t tokens() const { return num_sequences * sequence_length; }
  int64_t qkv_size() const { return (num_heads + 2 * num_kv_heads) * head_size; }
  int64_t out_size() const { return num_heads * head_size; }
};

// With p = T (s + 1) / 2 * H pairs of tokens it takes 4 p d operations. Moves qkv, out and lse once.
void AttentionForward(Stream& stream, const AttentionShape& shape, const Tensor& qkv /*[T, (H+2G)d]*/,
                      const Tensor& out /*[T, H d]*/, const Tensor& lse /*[T, H]*/);
// Probabilities are recomputed from qkv and lse, in 10 p d operations. CUDA takes 14 p d. It computes them
// once for the queries and once for the keys and values, so that no order of sums is left to chance. Moves
// qkv, out, dout, lse and dqkv once.
void AttentionBackward(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& lse, const Tensor& dout /*[T, H d]*/,
                       const Tensor& dqkv /*[T, (H+2G)d]*/);
// Of the backward, which takes more than the forward. dtype of qkv.
int64_t AttentionScratchBytes(Device device, const AttentionShape& shape, DType dtype);

// One new query row per call against cached keys and values, for generation. qkv [1, (H+2G)d] is already
// rotated. Its key and value are written to row `position` of the cache [max_positions, 2 G d], which holds
// keys, then values. Then the query attends to rows 0..position. With n = position + 1 it takes 4 n H d
// operations, and moves the keys and values up to position, 2 n G d elements, once.
void AttentionDecode(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& cache,
                     int64_t position, const Tensor& out /*[1, H d]*/);
// For any position of a cache of max_positions rows. dtype of qkv.
int64_t AttentionDecodeScratchBytes(Device device, const AttentionShape& shape, DType dtype,
                                    int64_t max_positions);

}  // namespace unipool
