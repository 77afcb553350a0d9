// Attention in F32, which tensor cores do not have at full precision: plain fused multiply-adds on tiles in
// shared memory. A block owns kOwn rows (queries, or keys with their values) and walks over the tiles of
// kOther rows of the other kind; a thread has 4 x 4 of their scores and 4 rows of the results, every eighth
// column.
#include "kernels/cuda/attention_view.h"

namespace unipool::cuda {
namespace {

constexpr int kOwn = 64, kOther = 32, kThreads = 128, kAcross = 8, kEach = 4;
constexpr int kPairStride = kOther + 1;
static_assert(kOwn == kThreads / kAcross * kEach && kOther == kAcross * kEach);

// Shared rows are one element longer than a head, so that rows begin in different banks.
template <int kWidth>
constexpr int kStride = kWidth + 1;
template <int kWidth>
constexpr int64_t SharedBytes(int own_tiles, int other_tiles) {
  return ((own_tiles * kOwn + other_tiles * kOther) * kStride<kWidth> + kOwn * kPairStride) *
         int64_t{sizeof(float)};
}

__device__ inline int Across() {
  return static_cast<int>(threadIdx.x) % kAcross;
}
// The first of the thread's own rows in the tile. The threads of a row are lanes of one warp.
__device__ inline int OwnRow() {
  return static_cast<int>(threadIdx.x) / kAcross * kEach;
}

// Rows of `size` elements into a tile, zeros where there is none.
template <int kRows, int kWidth>
__device__ inline void LoadTile(float* tile, const float* from, int64_t stride, int num_rows, int size) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kWidth; i += kThreads) {
    const int row = i / kWidth, column = i % kWidth;
    tile[row * kStride<kWidth> + column] =
        row < num_rows && column < size ? from[row * stride + column] : 0.0f;
  }
}

// Own rows times other rows: products[i][j] of own row i and other row Across() + kAcross j.
template <int kWidth>
__device__ inline void Products(const float* own, const float* other, float (&products)[kEach][kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) products[i][j] = 0;
  }
#pragma unroll 4
  for (int k = 0; k < kWidth; ++k) {
    float left[kEach], right[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) left[i] = own[(OwnRow() + i) * kStride<kWidth> + k];
#pragma unroll
    for (int j = 0; j < kEach; ++j) right[j] = other[(Across() + kAcross * j) * kStride<kWidth> + k];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) products[i][j] += left[i] * right[j];
    }
  }
}

template <int kWidth>
struct OwnSums {
  float value[kEach][kWidth / kAcross] = {};

  // += pairs [own, other] times the other rows. `shared` has room for the pairs of all threads.
  __device__ void AddProduct(const float (&pairs)[kEach][kEach], float* shared, const float* other) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j)
        shared[(OwnRow() + i) * kPairStride + Across() + kAcross * j] = pairs[i][j];
    }
    __syncwarp();
#pragma unroll 2
    for (int k = 0; k < kOther; ++k) {
      float left[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) left[i] = shared[(OwnRow() + i) * kPairStride + k];
#pragma unroll
      for (int c = 0; c < kWidth / kAcross; ++c) {
        const float right = other[k * kStride<kWidth> + Across() + kAcross * c];
#pragma unroll
        for (int i = 0; i < kEach; ++i) value[i][c] += left[i] * right;
      }
    }
  }

  __device__ void Store(float* to, int64_t stride, int num_rows, int size,
                        const float (&factors)[kEach]) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (OwnRow() + i >= num_rows) continue;
#pragma unroll
      for (int c = 0; c < kWidth / kAcross; ++c) {
        const int column = Across() + kAcross * c;
        if (column < size) to[(OwnRow() + i) * stride + column] = value[i][c] * factors[i];
      }
    }
  }
};

// A sum or maximum over the threads of a row.
__device__ inline float RowSum(float x) {
#pragma unroll
  for (int step = kAcross / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}
__device__ inline float RowMax(float x) {
#pragma unroll
  for (int step = kAcross / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, step));
  return x;
}

template <int kWidth>
UNIPOOL_KERNEL((kThreads), ForwardKernel, AttentionView<float> a) {
  TilePlace place = PlaceOfBlock(a.num_heads, a.num_sequences);
  place.tile = (a.length - 1) / kOwn - place.tile;  // those with the most keys first
  const int first_query = place.tile * kOwn, kv_head = place.head / a.group_size;
  float* const queries = DynamicShared<float>();
  float* const keys = queries + kOwn * kStride<kWidth>;
  float* const values = keys + kOther * kStride<kWidth>;
  float* const pairs = values + kOther * kStride<kWidth>;
  LoadTile<kOwn, kWidth>(queries, a.qkv + a.QueryAt(place.sequence, first_query, place.head), a.qkv_stride,
                         a.length - first_query, a.head_size);
  OwnSums<kWidth> out;
  float largest[kEach], sum[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    largest[i] = -INFINITY;
    sum[i] = 0;
  }
  for (int key = 0; key < min(a.length, first_query + kOwn); key += kOther) {
    __syncthreads();
    LoadTile<kOther, kWidth>(keys, a.qkv + a.KeyAt(place.sequence, key, kv_head), a.qkv_stride,
                             a.length - key, a.head_size);
    LoadTile<kOther, kWidth>(values, a.qkv + a.ValueAt(place.sequence, key, kv_head), a.qkv_stride,
                             a.length - key, a.head_size);
    __syncthreads();
    float scores[kEach][kEach];
    Products<kWidth>(queries, keys, scores);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      float tile_largest = largest[i];
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const bool seen = key + Across() + kAcross * j <= first_query + OwnRow() + i;
        scores[i][j] = seen ? scores[i][j] * a.scale : -INFINITY;
        tile_largest = fmaxf(tile_largest, scores[i][j]);
      }
      tile_largest = RowMax(tile_largest);
      const float factor = expf(largest[i] - tile_largest);
      largest[i] = tile_largest;
      sum[i] *= factor;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        scores[i][j] = expf(scores[i][j] - tile_largest);
        sum[i] += scores[i][j];
      }
#pragma unroll
      for (int c = 0; c < kWidth / kAcross; ++c) out.value[i][c] *= factor;
    }
    out.AddProduct(scores, pairs, values);
  }
  float inverse[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float total = RowSum(sum[i]);
    inverse[i] = 1.0f / total;
    const int row = first_query + OwnRow() + i;
    if (Across() == 0 && row < a.length)
      a.lse_to[a.Token(place.sequence, row) * a.num_heads + place.head] = largest[i] + logf(total);
  }
  out.Store(a.out_to + a.OutAt(place.sequence, first_query, place.head), a.out_stride, a.length - first_query,
            a.head_size, inverse);
}

// The probability of one pair, and the gradient of its score from that of its probability.
__device__ inline float Probability(float product, float scale2, const RowTerm& term, bool seen) {
  return seen ? exp2f(product * scale2 - term.lse2) : 0.0f;
}

template <int kWidth>
UNIPOOL_KERNEL((kThreads), KeyGradientKernel, AttentionView<float> a) {
  const int num_kv_heads = a.num_heads / a.group_size;
  const TilePlace place = PlaceOfBlock(num_kv_heads, a.num_sequences);
  const int first_key = place.tile * kOwn, num_rows = a.length - first_key;
  float* const keys = DynamicShared<float>();
  float* const values = keys + kOwn * kStride<kWidth>;
  float* const queries = values + kOwn * kStride<kWidth>;
  float* const douts = queries + kOther * kStride<kWidth>;
  float* const pairs = douts + kOther * kStride<kWidth>;
  const int64_t key_at = a.KeyAt(place.sequence, first_key, place.head);
  const int64_t value_at = a.ValueAt(place.sequence, first_key, place.head);
  LoadTile<kOwn, kWidth>(keys, a.qkv + key_at, a.qkv_stride, num_rows, a.head_size);
  LoadTile<kOwn, kWidth>(values, a.qkv + value_at, a.qkv_stride, num_rows, a.head_size);
  OwnSums<kWidth> dkeys, dvalues;
  for (int head = place.head * a.group_size; head < (place.head + 1) * a.group_size; ++head) {
    const RowTerm* terms = a.TermsOf(place.sequence, head);
    for (int query = first_key; query < a.length; query += kOther) {
      __syncthreads();
      LoadTile<kOther, kWidth>(queries, a.qkv + a.QueryAt(place.sequence, query, head), a.qkv_stride,
                               a.length - query, a.head_size);
      LoadTile<kOther, kWidth>(douts, a.dout + a.OutAt(place.sequence, query, head), a.out_stride,
                               a.length - query, a.head_size);
      __syncthreads();
      float scores[kEach][kEach], dscores[kEach][kEach];
      Products<kWidth>(keys, queries, scores);
      Products<kWidth>(values, douts, dscores);
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int row = query + Across() + kAcross * j;
        const RowTerm term = terms[row];
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          scores[i][j] = Probability(scores[i][j], a.scale * kLog2E, term, first_key + OwnRow() + i <= row);
          dscores[i][j] = scores[i][j] * (dscores[i][j] - term.mean);
        }
      }
      dvalues.AddProduct(scores, pairs, douts);
      dkeys.AddProduct(dscores, pairs, queries);
    }
  }
  float ones[kEach], scales[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    ones[i] = 1;
    scales[i] = a.scale;
  }
  dvalues.Store(a.dqkv + value_at, a.qkv_stride, num_rows, a.head_size, ones);
  dkeys.Store(a.dqkv + key_at, a.qkv_stride, num_rows, a.head_size, scales);
}

template <int kWidth>
UNIPOOL_KERNEL((kThreads), QueryGradientKernel, AttentionView<float> a) {
  TilePlace place = PlaceOfBlock(a.num_heads, a.num_sequences);
  place.tile = (a.length - 1) / kOwn - place.tile;
  const int first_query = place.tile * kOwn, kv_head = place.head / a.group_size;
  const int num_rows = a.length - first_query;
  float* const queries = DynamicShared<float>();
  float* const douts = queries + kOwn * kStride<kWidth>;
  float* const keys = douts + kOwn * kStride<kWidth>;
  float* const values = keys + kOther * kStride<kWidth>;
  float* const pairs = values + kOther * kStride<kWidth>;
  const int64_t query_at = a.QueryAt(place.sequence, first_query, place.head);
  LoadTile<kOwn, kWidth>(queries, a.qkv + query_at, a.qkv_stride, num_rows, a.head_size);
  LoadTile<kOwn, kWidth>(douts, a.dout + a.OutAt(place.sequence, first_query, place.head), a.out_stride,
                         num_rows, a.head_size);
  RowTerm terms[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    terms[i] = a.TermsOf(place.sequence, place.head)[first_query + OwnRow() + i];
  OwnSums<kWidth> dqueries;
  for (int key = 0; key < min(a.length, first_query + kOwn); key += kOther) {
    __syncthreads();
    LoadTile<kOther, kWidth>(keys, a.qkv + a.KeyAt(place.sequence, key, kv_head), a.qkv_stride,
                             a.length - key, a.head_size);
    LoadTile<kOther, kWidth>(values, a.qkv + a.ValueAt(place.sequence, key, kv_head), a.qkv_stride,
                             a.length - key, a.head_size);
    __syncthreads();
    float scores[kEach][kEach], dscores[kEach][kEach];
    Products<kWidth>(queries, keys, scores);
    Products<kWidth>(douts, values, dscores);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const bool seen = key + Across() + kAcross * j <= first_query + OwnRow() + i;
        dscores[i][j] =
            Probability(scores[i][j], a.scale * kLog2E, terms[i], seen) * (dscores[i][j] - terms[i].mean);
      }
    }
    dqueries.AddProduct(dscores, pairs, keys);
  }
  float scales[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) scales[i] = a.scale;
  dqueries.Store(a.dqkv + query_at, a.qkv_stride, num_rows, a.head_size, scales);
}

}  // namespace

void AttentionForwardOn(Stream& stream, const AttentionView<float>& view) {
  DispatchHeadSize(view.head_size, [&]<int kWidth>() {
    const LaunchShape shape = {.grid = NumTileBlocks(view, view.num_heads, kOwn),
                               .block = kThreads,
                               .shared_bytes = SharedBytes<kWidth>(1, 2)};
    Launch("AttentionForward in F32", &ForwardKernel<kWidth>, shape, stream, view);
  });
}

void AttentionBackwardOn(Stream& stream, const AttentionView<float>& view) {
  const int num_kv_heads = view.num_heads / view.group_size;
  DispatchHeadSize(view.head_size, [&]<int kWidth>() {
    LaunchShape shape = {.grid = NumTileBlocks(view, num_kv_heads, kOwn),
                         .block = kThreads,
                         .shared_bytes = SharedBytes<kWidth>(2, 2)};
    Launch("AttentionBackward of keys and values in F32", &KeyGradientKernel<kWidth>, shape, stream, view);
    shape.grid = NumTileBlocks(view, view.num_heads, kOwn);
    Launch("AttentionBackward of queries in F32", &QueryGradientKernel<kWidth>, shape, stream, view);
  });
}

}  // namespace unipool::cuda
