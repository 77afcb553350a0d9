// Attention forward on tensor cores, in the manner of FlashAttention-2 (arXiv 2307.08691): a block keeps a
// tile of queries and walks over the tiles of keys and values up to the diagonal; the next tile is on its way
// while one is used. Each warp owns its query rows: scores, probabilities and sums stay in its registers.
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/attention_view.h"

namespace unipool::cuda {
namespace {

constexpr int kQueries = 128;

template <int kWidth>
struct Tiles {
  // Rows of a warp in 16s: two let every operand that is read from shared memory serve twice, as far as the
  // registers suffice.
  static constexpr int kRowTiles = kWidth <= 96 ? 2 : 1;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kThreads = kQueries / kWarpRows * kWarp;
  static constexpr int kKeys = kWidth == 96 ? 32 : 64;
  static constexpr int64_t kSharedBytes = (kQueries + 4 * kKeys) * kWidth * int64_t{sizeof(Bf16)};
};

template <int kWidth>
using Scores = Sums<Tiles<kWidth>::kRowTiles, Tiles<kWidth>::kKeys / 8>;
template <int kWidth>
using Out = Sums<Tiles<kWidth>::kRowTiles, kWidth / 8>;

// A lane holds rows g and g + 8 of each row tile, columns 2 t and 2 t + 1 of each column tile.
template <int kWidth>
__device__ inline void MaskAboveDiagonal(Scores<kWidth>& scores, int first_row, int first_key) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < Tiles<kWidth>::kRowTiles; ++r) {
#pragma unroll
    for (int c = 0; c < Tiles<kWidth>::kKeys / 8; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = first_row + 16 * r + lane / 4 + e / 2 * 8;
        const int key = first_key + 8 * c + lane % 4 * 2 + e % 2;
        if (key > row) scores.value[r][c][e] = -INFINITY;
      }
    }
  }
}

// What a lane knows of its 2 kRowTiles rows: the largest score so far (the same in the four lanes of a row),
// and its own share of the sum of probabilities relative to that.
template <int kWidth>
struct RowState {
  float largest[Tiles<kWidth>::kRowTiles][2], sum[Tiles<kWidth>::kRowTiles][2];
};

// Scores become probabilities relative to the largest score so far; sums of earlier tiles are scaled to it.
template <int kWidth>
__device__ inline void Softmax(Scores<kWidth>& scores, float scale2, RowState<kWidth>& state,
                               Out<kWidth>& out) {
#pragma unroll
  for (int r = 0; r < Tiles<kWidth>::kRowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = state.largest[r][half];
#pragma unroll
      for (int c = 0; c < Tiles<kWidth>::kKeys / 8; ++c) {
        largest = fmaxf(largest, fmaxf(scores.value[r][c][2 * half], scores.value[r][c][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 2));
      const float shift = largest * scale2, factor = Exp2(state.largest[r][half] * scale2 - shift);
      state.largest[r][half] = largest;
      float sum = state.sum[r][half] * factor;
#pragma unroll
      for (int c = 0; c < Tiles<kWidth>::kKeys / 8; ++c) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          scores.value[r][c][e] = Exp2(scores.value[r][c][e] * scale2 - shift);
          sum += scores.value[r][c][e];
        }
      }
      state.sum[r][half] = sum;
#pragma unroll
      for (int c = 0; c < kWidth / 8; ++c) {
        out.value[r][c][2 * half] *= factor;
        out.value[r][c][2 * half + 1] *= factor;
      }
    }
  }
}

// Divides by the sums of probabilities; writes lse.
template <int kWidth>
__device__ inline void Finish(const AttentionView<Bf16>& a, const TilePlace& place, int first_row,
                              const RowState<kWidth>& state, Out<kWidth>& out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < Tiles<kWidth>::kRowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = state.sum[r][half];
      sum += __shfl_xor_sync(kFullWarp, sum, 1);
      sum += __shfl_xor_sync(kFullWarp, sum, 2);
      const float inverse = 1.0f / sum;
#pragma unroll
      for (int c = 0; c < kWidth / 8; ++c) {
        out.value[r][c][2 * half] *= inverse;
        out.value[r][c][2 * half + 1] *= inverse;
      }
      const int row = first_row + 16 * r + 8 * half + lane / 4;
      if (lane % 4 == 0 && row < a.length) {
        a.lse_to[a.Token(place.sequence, row) * a.num_heads + place.head] =
            state.largest[r][half] * a.scale + logf(sum);
      }
    }
  }
}

template <int kWidth>
UNIPOOL_KERNEL((Tiles<kWidth>::kThreads), ForwardKernel, AttentionView<Bf16> a) {
  constexpr int kTileKeys = Tiles<kWidth>::kKeys, kTile = kTileKeys * kWidth;
  TilePlace place = PlaceOfBlock(a.num_heads, a.num_sequences);
  place.tile = (a.length - 1) / kQueries - place.tile;  // those with the most keys first
  const int first_query = place.tile * kQueries, kv_head = place.head / a.group_size;
  const int num_keys = min(a.length, first_query + kQueries);
  const int num_tiles = (num_keys + kTileKeys - 1) / kTileKeys;

  Bf16* const queries = DynamicShared<Bf16>();
  Bf16* const stages = queries + kQueries * kWidth;  // two of keys and values
  Bf16* const qkv = const_cast<Bf16*>(a.qkv);
  const auto start_copy = [&](int tile) {
    const int key = tile * kTileKeys;
    Bf16* const stage = stages + tile % 2 * 2 * kTile;
    HeadRows rows = {qkv + a.KeyAt(place.sequence, key, kv_head), a.qkv_stride, a.length - key, a.head_size,
                     a.packs};
    CopyTile<kTileKeys, kWidth, Tiles<kWidth>::kThreads>(stage, rows);
    rows.data = qkv + a.ValueAt(place.sequence, key, kv_head);
    CopyTile<kTileKeys, kWidth, Tiles<kWidth>::kThreads>(stage + kTile, rows);
    CommitCopies();
  };
  CopyTile<kQueries, kWidth, Tiles<kWidth>::kThreads>(
      queries, {qkv + a.QueryAt(place.sequence, first_query, place.head), a.qkv_stride,
                a.length - first_query, a.head_size, a.packs});
  start_copy(0);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Tiles<kWidth>::kWarpRows;  // in the tile
  const int first_row = first_query + warp_row;
  Out<kWidth> out;
  out.Clear();
  RowState<kWidth> state;
#pragma unroll
  for (int r = 0; r < Tiles<kWidth>::kRowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state.largest[r][half] = -INFINITY;
      state.sum[r][half] = 0;
    }
  }
  for (int tile = 0; tile < num_tiles; ++tile) {
    WaitCopies<0>();
    __syncthreads();  // the tile is here, and the other stage has been used by all
    if (tile + 1 < num_tiles) start_copy(tile + 1);
    const int first_key = tile * kTileKeys;
    if (first_key >= first_row + Tiles<kWidth>::kWarpRows) continue;
    const Bf16* const keys = stages + tile % 2 * 2 * kTile;
    Scores<kWidth> scores;
    scores.Clear();
    scores.template AddTransposedProduct<kWidth>(queries, warp_row, keys);
    if (first_key + kTileKeys - 1 > first_row) MaskAboveDiagonal<kWidth>(scores, first_row, first_key);
    Softmax<kWidth>(scores, a.scale * kLog2E, state, out);
    out.AddProductOf(scores.Rounded(), keys + kTile);
  }
  Finish<kWidth>(a, place, first_row, state, out);
  // Out through the warp's own query rows, so that it leaves in 16-byte accesses.
  __syncwarp();
  out.RoundInto(queries, warp_row, 1.0f);
  __syncwarp();
  StoreTileRows<Tiles<kWidth>::kWarpRows, kWidth>(
      queries, warp_row,
      {a.out_to + a.OutAt(place.sequence, first_query, place.head), a.out_stride, a.length - first_query,
       a.head_size, a.packs});
}

}  // namespace

void AttentionForwardOn(Stream& stream, const AttentionView<Bf16>& view) {
  DispatchHeadSize(view.head_size, [&]<int kWidth>() {
    const LaunchShape shape = {.grid = NumTileBlocks(view, view.num_heads, kQueries),
                               .block = Tiles<kWidth>::kThreads,
                               .shared_bytes = Tiles<kWidth>::kSharedBytes};
    Launch("AttentionForward", &ForwardKernel<kWidth>, shape, stream, view);
  });
}

}  // namespace unipool::cuda
