// What the attention kernels for bf16 (tensor cores) and for F32 have in common: arguments, the order of
// blocks, which heads lie where.
#pragma once

#include <cmath>

#include "kernels/attention.h"
#include "kernels/cuda/device.h"

namespace unipool::cuda {

inline constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

// What the backward needs of a query row: log-sum-exp of its scores to base 2 (infinite behind the last row,
// so that probabilities are 0 there) and <out, dout>.
struct alignas(8) RowTerm {
  float lse2, mean;
};
static_assert(sizeof(RowTerm) == kTermBytes);

template <class T>
struct AttentionView {
  int num_sequences, length, num_heads, group_size, head_size;
  int64_t qkv_stride, out_stride;  // elements from one token to the next
  float scale;                     // of the scores
  bool packs;                      // rows of all heads move in packs of 16 bytes
  const T *qkv, *out, *dout;
  T *out_to, *dqkv;
  const float* lse;
  float* lse_to;
  const RowTerm* terms;  // [sequences, H, length rounded up to kTermRows]

  __device__ int64_t Token(int sequence, int position) const { return int64_t{sequence} * length + position; }
  // First element of the head's row of that token in qkv or dqkv, and in out or dout.
  __device__ int64_t QueryAt(int sequence, int position, int head) const {
    return Token(sequence, position) * qkv_stride + head * head_size;
  }
  __device__ int64_t KeyAt(int sequence, int position, int kv_head) const {
    return QueryAt(sequence, position, num_heads + kv_head);
  }
  __device__ int64_t ValueAt(int sequence, int position, int kv_head) const {
    return QueryAt(sequence, position, num_heads + num_heads / group_size + kv_head);
  }
  __device__ int64_t OutAt(int sequence, int position, int head) const {
    return Token(sequence, position) * out_stride + head * head_size;
  }
  __device__ const RowTerm* TermsOf(int sequence, int head) const {
    return terms +
           (int64_t{sequence} * num_heads + head) * ((length + kTermRows - 1) / kTermRows * kTermRows);
  }
};

template <class T>
AttentionView<T> ViewOf(const AttentionShape& shape) {
  AttentionView<T> view = {};
  view.num_sequences = static_cast<int>(shape.num_sequences);
  view.length = static_cast<int>(shape.sequence_length);
  view.num_heads = static_cast<int>(shape.num_heads);
  view.group_size = static_cast<int>(shape.num_heads / shape.num_kv_heads);
  view.head_size = static_cast<int>(shape.head_size);
  view.qkv_stride = shape.qkv_size();
  view.out_stride = shape.out_size();
  view.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_size)));
  return view;
}

// One block works on one tile of one head of one sequence. Blocks with the same tile follow each other, heads
// of a group first, so that they find their keys and values in the cache.
struct TilePlace {
  int tile, sequence, head;
};
__device__ inline TilePlace PlaceOfBlock(int num_heads, int num_sequences) {
  const int block = static_cast<int>(blockIdx.x), rest = block / num_heads;
  return {rest / num_sequences, rest % num_sequences, block % num_heads};
}

template <class T>
unsigned NumTileBlocks(const AttentionView<T>& view, int num_heads, int64_t tile_rows) {
  return static_cast<unsigned>(CeilDiv(view.length, tile_rows) * view.num_sequences * num_heads);
}

__device__ inline float Exp2(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

// Runs body.template operator()<kWidth>() with the smallest tile width that holds a head.
template <class Body>
void DispatchHeadSize(int64_t head_size, Body&& body) {
  CHECK_LE(head_size, kMostCudaHeadSize) << "attention on CUDA takes heads of at most that size";
  if (head_size <= 32) return body.template operator()<32>();
  if (head_size <= 64) return body.template operator()<64>();
  if (head_size <= 96) return body.template operator()<96>();
  return body.template operator()<128>();
}

// The steps that attention_cuda.cu puts together. REQUIRES: view.terms filled for the backward.
void AttentionForwardOn(Stream& stream, const AttentionView<Bf16>& view);
void AttentionForwardOn(Stream& stream, const AttentionView<float>& view);
void AttentionBackwardOn(Stream& stream, const AttentionView<Bf16>& view);
void AttentionBackwardOn(Stream& stream, const AttentionView<float>& view);

}  // namespace unipool::cuda
