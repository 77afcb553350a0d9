// Attention backward on tensor cores (arXiv 2307.08691, section 3.2), as two kernels, so that every sum has
// one owner and one order: one owns tiles of keys and values and walks over the queries of all heads of
// their group, one owns tiles of queries and walks over the keys. Both recompute the probabilities.
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/attention_view.h"

namespace unipool::cuda {
namespace {

// The owned rows: kWarps warps with kRowTiles times 16 each; the other rows come in tiles, two at a time.
template <int kTheRowTiles, int kTheWarps, int kTheOther>
struct TilesOf {
  static constexpr int kRowTiles = kTheRowTiles, kThreads = kTheWarps * kWarp, kOther = kTheOther;
  static constexpr int kWarpRows = 16 * kRowTiles, kOwn = kWarpRows * kTheWarps;
  using Pairs = Sums<kRowTiles, kOther / 8>;
};
// As many rows a warp as the registers take: every operand read from shared memory then serves twice.
template <int kWidth>
struct KeyTiles : TilesOf<kWidth <= 64 ? 2 : 1, 4, 32> {};
template <int kWidth>
struct QueryTiles : TilesOf<kWidth <= 96 ? 2 : 1, 4, 32> {};

template <class Tiles, int kWidth>
constexpr int64_t SharedBytes(bool terms) {
  return 2 * (Tiles::kOwn + 2 * Tiles::kOther) * kWidth * int64_t{sizeof(Bf16)} +
         (terms ? 2 * Tiles::kOther * int64_t{sizeof(RowTerm)} : 0);
}

// body(r, c, e, own row of the warp, other row) for every pair that this lane holds the sum of.
template <class Tiles, class Body>
__device__ inline void ForPairs(Body body) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < Tiles::kRowTiles; ++r) {
#pragma unroll
    for (int c = 0; c < Tiles::kOther / 8; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) body(r, c, e, 16 * r + lane / 4 + e / 2 * 8, 8 * c + lane % 4 * 2 + e % 2);
    }
  }
}

// A warp's sums to global memory, through its own rows of a tile that is not needed any more.
template <class Tiles, int kWidth>
__device__ inline void StoreSums(const Sums<Tiles::kRowTiles, kWidth / 8>& sums, float factor, Bf16* tile,
                                 int warp_row, const HeadRows& to) {
  __syncwarp();
  sums.RoundInto(tile, warp_row, factor);
  __syncwarp();
  StoreTileRows<Tiles::kWarpRows, kWidth>(tile, warp_row, to);
}

template <int kWidth>
UNIPOOL_KERNEL((KeyTiles<kWidth>::kThreads), KeyGradientKernel, AttentionView<Bf16> a) {
  using Tiles = KeyTiles<kWidth>;
  constexpr int kOwn = Tiles::kOwn, kOther = Tiles::kOther, kTile = kOther * kWidth;
  // Tiles of the first keys, which the most queries see, come first.
  const TilePlace place = PlaceOfBlock(a.num_heads / a.group_size, a.num_sequences);
  const int first_key = place.tile * kOwn;
  Bf16* const keys = DynamicShared<Bf16>();
  Bf16* const values = keys + kOwn * kWidth;
  Bf16* const stages = values + kOwn * kWidth;  // two of queries and douts
  RowTerm* const stage_terms = reinterpret_cast<RowTerm*>(stages + 4 * kTile);
  const HeadRows key_rows = {const_cast<Bf16*>(a.qkv) + a.KeyAt(place.sequence, first_key, place.head),
                             a.qkv_stride, a.length - first_key, a.head_size, a.packs};
  HeadRows value_rows = key_rows;
  value_rows.data = const_cast<Bf16*>(a.qkv) + a.ValueAt(place.sequence, first_key, place.head);

  // Query tiles of all heads of the group, one after the other.
  const int first_query = first_key / kOther * kOther;
  const int tiles_of_head = (a.length - first_query + kOther - 1) / kOther;
  const int num_tiles = tiles_of_head * a.group_size;
  int next_head = place.head * a.group_size, next_query = first_query;
  const auto start_copy = [&](int tile) {
    Bf16* const stage = stages + tile % 2 * 2 * kTile;
    const int left = a.length - next_query;
    CopyTile<kOther, kWidth, Tiles::kThreads>(
        stage, {const_cast<Bf16*>(a.qkv) + a.QueryAt(place.sequence, next_query, next_head), a.qkv_stride,
                left, a.head_size, a.packs});
    CopyTile<kOther, kWidth, Tiles::kThreads>(
        stage + kTile, {const_cast<Bf16*>(a.dout) + a.OutAt(place.sequence, next_query, next_head),
                        a.out_stride, left, a.head_size, a.packs});
    const int i = static_cast<int>(threadIdx.x) * 2;  // two terms are 16 bytes
    if (i < kOther)
      CopyAsync16(stage_terms + tile % 2 * kOther + i, a.TermsOf(place.sequence, next_head) + next_query + i,
                  true);
    CommitCopies();
    next_query += kOther;
    if (next_query >= a.length) {
      next_query = first_query;
      ++next_head;
    }
  };
  CopyTile<kOwn, kWidth, Tiles::kThreads>(keys, key_rows);
  CopyTile<kOwn, kWidth, Tiles::kThreads>(values, value_rows);
  start_copy(0);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Tiles::kWarpRows;
  const int warp_key = first_key + warp_row;
  const float scale2 = a.scale * kLog2E;
  Sums<Tiles::kRowTiles, kWidth / 8> dkeys, dvalues;
  dkeys.Clear();
  dvalues.Clear();
  int query = first_query;
  for (int tile = 0; tile < num_tiles; ++tile) {
    WaitCopies<0>();
    __syncthreads();  // the tile is here, and the other stage has been used by all
    if (tile + 1 < num_tiles) start_copy(tile + 1);
    const int tile_query = query;
    query = query + kOther < a.length ? query + kOther : first_query;
    if (tile_query + kOther - 1 < warp_key) continue;
    const Bf16* const queries = stages + tile % 2 * 2 * kTile;
    const Bf16* const douts = queries + kTile;
    const RowTerm* const terms = stage_terms + tile % 2 * kOther;
    typename Tiles::Pairs pairs;  // scores, probabilities
    pairs.Clear();
    pairs.template AddTransposedProduct<kWidth>(keys, warp_row, queries);
    const bool masked = tile_query < warp_key + Tiles::kWarpRows - 1;
    ForPairs<Tiles>([&](int r, int c, int e, int own, int other) {
      float& pair = pairs.value[r][c][e];
      pair = Exp2(pair * scale2 - terms[other].lse2);
      if (masked && warp_key + own > tile_query + other) pair = 0;
    });
    const auto probabilities = pairs.Rounded();
    dvalues.AddProductOf(probabilities, douts);
    pairs.Clear();  // gradients of the probabilities, of the scores
    pairs.template AddTransposedProduct<kWidth>(values, warp_row, douts);
    ForPairs<Tiles>([&](int r, int c, int e, int, int other) {
      float& pair = pairs.value[r][c][e];
      pair = probabilities.Value(r, c, e) * (pair - terms[other].mean);
    });
    dkeys.AddProductOf(pairs.Rounded(), queries);
  }
  HeadRows to = value_rows;
  to.data = a.dqkv + a.ValueAt(place.sequence, first_key, place.head);
  StoreSums<Tiles, kWidth>(dvalues, 1.0f, values, warp_row, to);
  to.data = a.dqkv + a.KeyAt(place.sequence, first_key, place.head);
  StoreSums<Tiles, kWidth>(dkeys, a.scale, keys, warp_row, to);
}

template <int kWidth>
UNIPOOL_KERNEL((QueryTiles<kWidth>::kThreads), QueryGradientKernel, AttentionView<Bf16> a) {
  using Tiles = QueryTiles<kWidth>;
  constexpr int kOwn = Tiles::kOwn, kOther = Tiles::kOther, kTile = kOther * kWidth;
  TilePlace place = PlaceOfBlock(a.num_heads, a.num_sequences);
  place.tile = (a.length - 1) / kOwn - place.tile;  // those with the most keys first
  const int first_query = place.tile * kOwn, kv_head = place.head / a.group_size;
  const int num_tiles = (min(a.length, first_query + kOwn) + kOther - 1) / kOther;
  Bf16* const queries = DynamicShared<Bf16>();
  Bf16* const douts = queries + kOwn * kWidth;
  Bf16* const stages = douts + kOwn * kWidth;  // two of keys and values
  Bf16* const qkv = const_cast<Bf16*>(a.qkv);
  const auto start_copy = [&](int tile) {
    const int key = tile * kOther;
    Bf16* const stage = stages + tile % 2 * 2 * kTile;
    HeadRows rows = {qkv + a.KeyAt(place.sequence, key, kv_head), a.qkv_stride, a.length - key, a.head_size,
                     a.packs};
    CopyTile<kOther, kWidth, Tiles::kThreads>(stage, rows);
    rows.data = qkv + a.ValueAt(place.sequence, key, kv_head);
    CopyTile<kOther, kWidth, Tiles::kThreads>(stage + kTile, rows);
    CommitCopies();
  };
  const int num_rows = a.length - first_query;
  CopyTile<kOwn, kWidth, Tiles::kThreads>(queries, {qkv + a.QueryAt(place.sequence, first_query, place.head),
                                                    a.qkv_stride, num_rows, a.head_size, a.packs});
  CopyTile<kOwn, kWidth, Tiles::kThreads>(
      douts, {const_cast<Bf16*>(a.dout) + a.OutAt(place.sequence, first_query, place.head), a.out_stride,
              num_rows, a.head_size, a.packs});
  start_copy(0);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Tiles::kWarpRows;
  const int warp_query = first_query + warp_row, lane = static_cast<int>(threadIdx.x) % kWarp;
  const float scale2 = a.scale * kLog2E;
  RowTerm terms[Tiles::kRowTiles][2];
#pragma unroll
  for (int r = 0; r < Tiles::kRowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      terms[r][half] = a.TermsOf(place.sequence, place.head)[warp_query + 16 * r + 8 * half + lane / 4];
  }
  // Queries meet every tile of keys: they stay in registers as far as these suffice (235 at width 64, with
  // which two blocks still fit an SM). Douts beside them would spill.
  constexpr bool kHolds = kWidth <= 64;
  HeldRows<Tiles::kRowTiles, kHolds ? kWidth : 16> held_queries;
  if constexpr (kHolds) {
    WaitCopies<0>();
    __syncthreads();
    held_queries.Load(queries, warp_row);
  }
  Sums<Tiles::kRowTiles, kWidth / 8> dqueries;
  dqueries.Clear();
  for (int tile = 0; tile < num_tiles; ++tile) {
    WaitCopies<0>();
    __syncthreads();  // the tile is here, and the other stage has been used by all
    if (tile + 1 < num_tiles) start_copy(tile + 1);
    const int first_key = tile * kOther;
    if (first_key >= warp_query + Tiles::kWarpRows) continue;
    const Bf16* const keys = stages + tile % 2 * 2 * kTile;
    const Bf16* const values = keys + kTile;
    typename Tiles::Pairs pairs;  // scores, probabilities
    pairs.Clear();
    if constexpr (kHolds) {
      pairs.AddTransposedProduct(held_queries, keys);
    } else {
      pairs.template AddTransposedProduct<kWidth>(queries, warp_row, keys);
    }
    const bool masked = first_key + kOther - 1 > warp_query;
    ForPairs<Tiles>([&](int r, int c, int e, int own, int other) {
      float& pair = pairs.value[r][c][e];
      pair = Exp2(pair * scale2 - terms[r][e / 2].lse2);
      if (masked && first_key + other > warp_query + own) pair = 0;
    });
    const auto probabilities = pairs.Rounded();
    pairs.Clear();  // gradients of the probabilities, of the scores
    pairs.template AddTransposedProduct<kWidth>(douts, warp_row, values);
    ForPairs<Tiles>([&](int r, int c, int e, int, int) {
      float& pair = pairs.value[r][c][e];
      pair = probabilities.Value(r, c, e) * (pair - terms[r][e / 2].mean);
    });
    dqueries.AddProductOf(pairs.Rounded(), keys);
  }
  StoreSums<Tiles, kWidth>(dqueries, a.scale, queries, warp_row,
                           {a.dqkv + a.QueryAt(place.sequence, first_query, place.head), a.qkv_stride,
                            num_rows, a.head_size, a.packs});
}

}  // namespace

void AttentionBackwardOn(Stream& stream, const AttentionView<Bf16>& view) {
  const int num_kv_heads = view.num_heads / view.group_size;
  DispatchHeadSize(view.head_size, [&]<int kWidth>() {
    using Keys = KeyTiles<kWidth>;
    using Queries = QueryTiles<kWidth>;
    static_assert(kTermRows % Keys::kOwn == 0 && kTermRows % Queries::kOwn == 0);
    Launch("AttentionBackward of keys and values", &KeyGradientKernel<kWidth>,
           {.grid = NumTileBlocks(view, num_kv_heads, Keys::kOwn),
            .block = Keys::kThreads,
            .shared_bytes = SharedBytes<Keys, kWidth>(true)},
           stream, view);
    Launch("AttentionBackward of queries", &QueryGradientKernel<kWidth>,
           {.grid = NumTileBlocks(view, view.num_heads, Queries::kOwn),
            .block = Queries::kThreads,
            .shared_bytes = SharedBytes<Queries, kWidth>(false)},
           stream, view);
  });
}

}  // namespace unipool::cuda
