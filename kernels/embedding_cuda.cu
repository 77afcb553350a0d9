// Backward: tokens are sorted by id, equal ids by position; then rows of dout are summed in that order, in
// rounds.
//
//   1 SortKernel    a block sorts a tile of kTile keys (id, position) in shared memory
//   2 RankKernel    a key's place in the whole order is its place in its tile plus, for each other tile, the
//                   number of its keys that are smaller: a binary search. T / kTile searches a key.
//   3 SumKernel     a warp takes kChunk neighbours of the order and a strip of columns. What one id has in
//                   the chunk is a run. The sum of a run that begins here is added to the table; that of a
//                   run that began in an earlier chunk is a row of the next round. Each round leaves at most
//                   a row a chunk; the round of one chunk is the last.
// So an id that all tokens have is summed by as many warps as ids that come once, and in a round one chunk at
// most adds to a row of the table. Keys differ from each other, so the order, and with it every sum, is a
// function of the tokens alone.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"
#include "kernels/embedding.h"

namespace unipool::cuda {
namespace {

using Key = unsigned long long;  // id in the upper 32 bits, position of the row in the lower
constexpr int kTile = kEmbeddingTile, kSortThreads = kTile / 2, kRankThreads = 256;
constexpr int kChunk = kEmbeddingChunk, kStripWarps = 4, kRowsInFlight = 4;
constexpr int kSumBlocksPerSm = 6;       // enough rows under way; asked for more, the compiler spills
constexpr Key kNoKey = ~Key{0};          // behind all keys
constexpr uint32_t kNoRow = 0xffffffff;  // position of a key that has no row

__device__ inline int IdOf(Key key) {
  return static_cast<int>(key >> 32);
}
__device__ inline uint32_t PositionOf(Key key) {
  return static_cast<uint32_t>(key);
}

// Bitonic sort of a tile. Block kSortThreads.
UNIPOOL_KERNEL((kSortThreads), SortKernel, int64_t num_tokens, int64_t vocabulary, const int32_t* tokens,
               Key* sorted_tiles) {
  UNIPOOL_SHARED(Key, keys, [kTile]);
  const int thread = threadIdx.x;
  for (int i = thread; i < kTile; i += kSortThreads) {
    const int64_t t = int64_t{blockIdx.x} * kTile + i;
    Key key = kNoKey;
    if (t < num_tokens) {
      const int32_t id = tokens[t];
      DeviceCheck(id >= 0 && id < vocabulary, "tokens are in the vocabulary");
      key = static_cast<Key>(id) << 32 | static_cast<Key>(t);
    }
    keys[i] = key;
  }
  for (int run = 2; run <= kTile; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      const int low = thread / step * 2 * step + thread % step, high = low + step;
      const bool rising = (low & run) == 0;
      const Key a = keys[low], b = keys[high];
      if ((a > b) == rising) {
        keys[low] = b;
        keys[high] = a;
      }
    }
  }
  __syncthreads();
  for (int i = thread; i < kTile; i += kSortThreads) sorted_tiles[int64_t{blockIdx.x} * kTile + i] = keys[i];
}

// Number of keys of a sorted tile that are smaller than `key`.
__device__ inline int CountSmaller(const Key* tile, Key key) {
  int count = 0;
#pragma unroll
  for (int step = kTile / 2; step > 0; step /= 2) {
    if (tile[count + step - 1] < key) count += step;
  }
  return count + (tile[count] < key ? 1 : 0);
}

// Block kRankThreads, a thread per key.
UNIPOOL_KERNEL((kRankThreads), RankKernel, int64_t num_tiles, const Key* sorted_tiles, Key* sorted) {
  UNIPOOL_SHARED(Key, tile, [kTile]);
  const int64_t at = int64_t{blockIdx.x} * kRankThreads + threadIdx.x, own_tile = at / kTile;
  const Key key = sorted_tiles[at];
  int64_t rank = at % kTile;
  for (int64_t other = 0; other < num_tiles; ++other) {
    if (other == own_tile) continue;  // the same in all threads: kRankThreads divides kTile
    __syncthreads();                  // the tile before has been searched
    for (int i = threadIdx.x; i < kTile; i += kRankThreads) tile[i] = sorted_tiles[other * kTile + i];
    __syncthreads();
    rank += CountSmaller(tile, key);
  }
  if (key != kNoKey) sorted[rank] = key;
}

template <class T>
struct SumArguments {
  int64_t num_keys, width;
  const Key* sorted;  // [num_keys]; those without a row count for nothing
  const T* rows;
  float* dtable;
  // The next round, [num_chunks].
  Key* next_sorted;
  float* next_rows;
};

// kPack numbers that move in packs of 16 bytes where kPack allows it.
template <int kPack>
struct RowSum {
  static constexpr int kMove = kPack < 4 ? kPack : 4;
  float value[kPack] = {};

  __device__ void AddTo(float* to) const {
#pragma unroll
    for (int p = 0; p < kPack; p += kMove) {
      Pack<float, kMove> pack = LoadPack<kMove>(to + p);
#pragma unroll
      for (int e = 0; e < kMove; ++e) pack.value[e] += value[p + e];
      StorePack(to + p, pack);
    }
  }
  __device__ void Store(float* to) const {
#pragma unroll
    for (int p = 0; p < kPack; p += kMove) {
      Pack<float, kMove> pack;
#pragma unroll
      for (int e = 0; e < kMove; ++e) pack.value[e] = value[p + e];
      StorePack(to + p, pack);
    }
  }
};

// Block (32, kStripWarps). A run began in an earlier chunk if the key before has its id, with or without a
// row.
template <class T, int kPack>
UNIPOOL_KERNEL((kWarp * kStripWarps, kSumBlocksPerSm), SumKernel, SumArguments<T> a) {
  const auto chunk = static_cast<int64_t>(blockIdx.x);
  const int64_t column = ((int64_t{blockIdx.y} * kStripWarps + threadIdx.y) * kWarp + threadIdx.x) * kPack;
  if (column >= a.width) return;
  const int64_t first = chunk * kChunk, end = min(first + kChunk, a.num_keys);
  const int id_before = first > 0 ? IdOf(a.sorted[first - 1]) : -1;
  const int first_id = IdOf(a.sorted[first]);
  int id = first_id;
  RowSum<kPack> sum;
  bool has_sum = false, has_next = false;
  const auto finish = [&] {
    if (!has_sum) return;
    if (id != id_before) return sum.AddTo(a.dtable + int64_t{id} * a.width + column);
    has_next = true;
    sum.Store(a.next_rows + chunk * a.width + column);
  };
  for (int64_t i = first; i < end; i += kRowsInFlight) {
    Key keys[kRowsInFlight];
    Pack<T, kPack> rows[kRowsInFlight];
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) keys[r] = i + r < end ? a.sorted[i + r] : kNoKey;
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      if (PositionOf(keys[r]) != kNoRow)
        rows[r] = LoadPack<kPack>(a.rows + PositionOf(keys[r]) * a.width + column);
    }
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      if (PositionOf(keys[r]) == kNoRow) continue;
      if (IdOf(keys[r]) != id) {
        finish();
        id = IdOf(keys[r]);
        sum = {};
      }
      has_sum = true;
#pragma unroll
      for (int e = 0; e < kPack; ++e) sum.value[e] += ToFloat(rows[r].value[e]);
    }
  }
  finish();
  if (column != 0 || !a.next_sorted) return;
  a.next_sorted[chunk] =
      static_cast<Key>(first_id) << 32 | (has_next ? static_cast<uint32_t>(chunk) : kNoRow);
}

// Sums the rows of all rounds. `next_sorted` and `next_rows` have room for those of all later ones.
template <class T>
void SumRounds(Stream& stream, SumArguments<T> a, bool packs) {
  const int64_t num_chunks = CeilDiv(a.num_keys, kChunk);
  if (num_chunks == 1) a.next_sorted = nullptr;
  constexpr int kPack = kPackOf16<T>;
  const int64_t strip = int64_t{kStripWarps} * kWarp * (packs ? kPack : 1);
  Launch("EmbeddingBackward sum", packs ? &SumKernel<T, kPack> : &SumKernel<T, 1>,
         {.grid = dim3(static_cast<unsigned>(num_chunks), static_cast<unsigned>(CeilDiv(a.width, strip))),
          .block = dim3(kWarp, kStripWarps)},
         stream, a);
  if (num_chunks == 1) return;
  const SumArguments<float> next = {.num_keys = num_chunks,
                                    .width = a.width,
                                    .sorted = a.next_sorted,
                                    .rows = a.next_rows,
                                    .dtable = a.dtable,
                                    .next_sorted = a.next_sorted + num_chunks,
                                    .next_rows = a.next_rows + num_chunks * a.width};
  SumRounds(stream, next, packs);
}

}  // namespace

void EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const int64_t num_tokens = tokens.rows(), width = dtable.dim(1);
  if (num_tokens == 0 || width == 0) return;
  const int64_t num_tiles = CeilDiv(num_tokens, kTile), num_keys = num_tiles * kTile;
  const int64_t num_later = NumLaterRows(num_tokens), num_later_floats = CeilDiv(num_later * width, 2) * 2;
  Key* sorted_tiles =
      static_cast<Key*>(stream.Scratch(EmbeddingBackwardScratchBytes(Device::kCuda, num_tokens, width)));
  Key* sorted = sorted_tiles + num_keys;
  float* later_rows = reinterpret_cast<float*>(sorted + num_keys);
  Key* later_sorted = reinterpret_cast<Key*>(later_rows + num_later_floats);
  Launch("EmbeddingBackward sort", &SortKernel,
         {.grid = static_cast<unsigned>(num_tiles), .block = kSortThreads}, stream, num_tokens, dtable.rows(),
         tokens.as<int32_t>(), sorted_tiles);
  Launch("EmbeddingBackward rank", &RankKernel,
         {.grid = static_cast<unsigned>(num_keys / kRankThreads), .block = kRankThreads}, stream, num_tiles,
         sorted_tiles, sorted);
  DispatchDevice("EmbeddingBackward", dout.dtype, [&]<class T>() {
    const SumArguments<T> first = {.num_keys = num_tokens,
                                   .width = width,
                                   .sorted = sorted,
                                   .rows = dout.as<T>(),
                                   .dtable = dtable.as<float>(),
                                   .next_sorted = later_sorted,
                                   .next_rows = later_rows};
    SumRounds(stream, first, RowsAllowPacks(width, {&dout, &dtable}));
  });
}

}  // namespace unipool::cuda
