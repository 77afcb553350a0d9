// Backward: tokens are sorted by id, equal ids by position; then warps sum the rows of dout in that order.
//
//   1 SortKernel    a block sorts a tile of kTile keys (id, position) in shared memory
//   2 RankKernel    a key's place in the whole order is its place in its tile plus, for each other tile, the
//                   number of its keys that are smaller: a binary search. T / kTile searches a key.
//   3 SumKernel     a warp takes kChunk neighbours of the order and a strip of columns. What one id has in
//   the
//                   chunk is a run. A run that does not touch a neighbour chunk is added to the table; of
//                   others the sum is kept.
//   4 JoinKernel    the warp of the chunk in which a run over several chunks begins adds up its sums, in
//                   order, and adds the total to the table.
// Keys differ from each other, so the order, and with it every sum, is a function of the tokens alone.
#include "kernels/cuda/rows.h"
#include "kernels/embedding_cuda.h"

namespace unipool::cuda {
namespace {

using Key = unsigned long long;  // id in the upper 32 bits, position in the lower
constexpr int kTile = 1024, kSortThreads = kTile / 2, kRankThreads = 256;
constexpr int kChunk = 32, kStripWarps = 4, kRowsInFlight = 4;
constexpr Key kNoKey = ~Key{0};  // behind all keys

__device__ inline int64_t IdOf(Key key) {
  return static_cast<int64_t>(key >> 32);
}
__device__ inline int64_t PositionOf(Key key) {
  return static_cast<int64_t>(key & 0xffffffffu);
}

// Bitonic sort of a tile. Block kSortThreads.
__global__ void __launch_bounds__(kSortThreads)
    SortKernel(int64_t num_tokens, int64_t vocabulary, const int32_t* tokens, Key* sorted_tiles) {
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
__global__ void __launch_bounds__(kRankThreads)
    RankKernel(int64_t num_tiles, const Key* sorted_tiles, Key* sorted) {
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
  int64_t num_tokens, width, num_chunks;
  const Key* sorted;
  const T* dout;
  float* dtable;
  // [num_chunks, 2, width]: of each chunk the sum of the run that began in an earlier one, and of the run
  // that begins here and goes on in the next.
  float* open_runs;
};

// A warp's chunk and the first of its lane's columns.
template <int kPack>
struct Strip {
  int64_t chunk, column;
};
template <int kPack>
__device__ inline Strip<kPack> OwnStrip() {
  return {static_cast<int64_t>(blockIdx.x),
          ((int64_t{blockIdx.y} * kStripWarps + threadIdx.y) * kWarp + threadIdx.x) * kPack};
}

template <int kPack>
__device__ inline void AddTo(float* to, const float (&sum)[kPack]) {
#pragma unroll
  for (int e = 0; e < kPack; ++e) to[e] += sum[e];
}
template <int kPack>
__device__ inline void Store(float* to, const float (&sum)[kPack]) {
#pragma unroll
  for (int e = 0; e < kPack; ++e) to[e] = sum[e];
}

// Block (32, kStripWarps).
template <class T, int kPack>
__global__ void __launch_bounds__(kWarp* kStripWarps) SumKernel(SumArguments<T> a) {
  const auto [chunk, column] = OwnStrip<kPack>();
  if (column >= a.width) return;
  const int64_t first = chunk * kChunk, end = min(first + kChunk, a.num_tokens);
  // The ids beside the chunk; -1: none.
  const int64_t id_before = first > 0 ? IdOf(a.sorted[first - 1]) : -1;
  const int64_t id_behind = end < a.num_tokens ? IdOf(a.sorted[end]) : -1;
  float* open_runs = a.open_runs + chunk * 2 * a.width + column;
  float sum[kPack] = {};
  int64_t id = IdOf(a.sorted[first]);
  bool began_here = id != id_before;
  for (int64_t i = first; i < end; i += kRowsInFlight) {
    Key keys[kRowsInFlight];
    Pack<T, kPack> rows[kRowsInFlight];
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) keys[r] = i + r < end ? a.sorted[i + r] : kNoKey;
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      if (i + r < end) rows[r] = LoadPack<kPack>(a.dout + PositionOf(keys[r]) * a.width + column);
    }
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      if (i + r >= end) continue;
      if (IdOf(keys[r]) != id) {
        if (began_here) {
          AddTo(a.dtable + id * a.width + column, sum);
        } else {
          Store(open_runs, sum);
        }
        id = IdOf(keys[r]);
        began_here = true;
#pragma unroll
        for (int e = 0; e < kPack; ++e) sum[e] = 0;
      }
#pragma unroll
      for (int e = 0; e < kPack; ++e) sum[e] += ToFloat(rows[r].value[e]);
    }
  }
  if (!began_here) {
    Store(open_runs, sum);
  } else if (id == id_behind) {
    Store(open_runs + a.width, sum);
  } else {
    AddTo(a.dtable + id * a.width + column, sum);
  }
}

// Block (32, kStripWarps).
template <class T>
__global__ void __launch_bounds__(kWarp* kStripWarps) JoinKernel(SumArguments<T> a) {
  const auto [chunk, column] = OwnStrip<1>();
  const int64_t end = (chunk + 1) * kChunk;
  if (column >= a.width || end >= a.num_tokens) return;
  const int64_t id = IdOf(a.sorted[end - 1]);
  const bool goes_on = IdOf(a.sorted[end]) == id;
  const bool began_before = chunk > 0 && IdOf(a.sorted[chunk * kChunk - 1]) == id;
  if (!goes_on || began_before) return;
  float sum = a.open_runs[(chunk * 2 + 1) * a.width + column];
  for (int64_t next = chunk + 1; next < a.num_chunks && IdOf(a.sorted[next * kChunk]) == id; ++next)
    sum += a.open_runs[next * 2 * a.width + column];
  a.dtable[id * a.width + column] += sum;
}

LaunchShape Strips(int64_t num_chunks, int64_t width, int pack) {
  return {.grid = dim3(static_cast<unsigned>(num_chunks),
                       static_cast<unsigned>(CeilDiv(width, int64_t{kStripWarps} * kWarp * pack))),
          .block = dim3(kWarp, kStripWarps)};
}

}  // namespace

void EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const int64_t num_tokens = tokens.rows(), width = dtable.dim(1);
  if (num_tokens == 0 || width == 0) return;
  const int64_t num_tiles = CeilDiv(num_tokens, kTile), num_chunks = CeilDiv(num_tokens, kChunk);
  const int64_t num_keys = num_tiles * kTile;
  Key* sorted_tiles = static_cast<Key*>(
      stream.Scratch(2 * num_keys * int64_t{sizeof(Key)} + 2 * num_chunks * width * int64_t{sizeof(float)}));
  Key* sorted = sorted_tiles + num_keys;
  float* open_runs = reinterpret_cast<float*>(sorted + num_keys);
  Launch("EmbeddingBackward sort", &SortKernel,
         {.grid = static_cast<unsigned>(num_tiles), .block = kSortThreads}, stream, num_tokens, dtable.rows(),
         tokens.as<int32_t>(), sorted_tiles);
  Launch("EmbeddingBackward rank", &RankKernel,
         {.grid = static_cast<unsigned>(num_keys / kRankThreads), .block = kRankThreads}, stream, num_tiles,
         sorted_tiles, sorted);
  DispatchDevice("EmbeddingBackward", dout.dtype, [&]<class T>() {
    const SumArguments<T> arguments = {num_tokens,         width,    num_chunks, sorted, dout.as<T>(),
                                       dtable.as<float>(), open_runs};
    const bool packs = RowsAllowPacks(width, {&dout, &dtable});
    constexpr int kPack = kPackOf16<T>;
    Launch("EmbeddingBackward sum", packs ? &SumKernel<T, kPack> : &SumKernel<T, 1>,
           Strips(num_chunks, width, packs ? kPack : 1), stream, arguments);
    Launch("EmbeddingBackward join", &JoinKernel<T>, Strips(num_chunks, width, 1), stream, arguments);
  });
}

}  // namespace unipool::cuda
