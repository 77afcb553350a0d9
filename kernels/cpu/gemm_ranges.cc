#include "kernels/cpu/gemm_ranges.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cpu/gemm_pack.h"
#include "runtime/errors.h"
#include "runtime/poll_point.h"

namespace unipool {
namespace {

constexpr int64_t kMostK = 512;  // of all pieces that a tile sums before the next tile
constexpr int kMostPieces = 16;
// Two sets of sums must fit the registers, beside a row of q and a broadcast number.
constexpr int kMostRows = kVectorRegisters < 32 ? 3 : 7;
constexpr int64_t kPackedTiles = 16;  // packed at a time, and as many fetched ahead

// Pieces of k, each of which a tile sums by itself. Packed, one lies behind the other.
struct Pieces {
  // False: there is no room.
  bool Add(int64_t begin, int64_t size) {
    if (count == kMostPieces || num_k + size > kMostK) return false;
    pieces[count++] = {begin, size, num_k};
    num_k += size;
    return true;
  }
  struct Piece {
    int64_t begin, size, offset;  // offset: of the packed rows
  };
  std::array<Piece, kMostPieces> pieces;
  int count = 0;
  int64_t num_k = 0;
};

template <class T>
struct Tile {
  const Pieces* pieces;
  const T* p;  // [k, rows]
  const T* q;  // [k, width]
  T* c;
  int64_t c_stride;
  bool add;
  StoreKind store;
  int columns;       // valid columns of the tile, up to its width
  const T* fetch_c;  // the tile of c to fetch meanwhile; null: none
  Prefetcher<T>* fetch;
};

// Calls body(i, v, vector of c) for each vector of the tile.
template <class T, int R, int N, class Body>
[[gnu::always_inline]] inline void ForEachVector(const Tile<T>& tile, Body&& body) {
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < N; ++v) body(i, v, tile.c + i * tile.c_stride + v * kLanes<T>);
  }
}

template <class T, int R, int N>
[[gnu::always_inline]] inline void LoadTile(const Tile<T>& tile, Vec<T> (&sums)[R][N]) {
  if (tile.columns == N * kLanes<T>) [[likely]]
    return ForEachVector<T, R, N>(tile, [&](int i, int v, const T* c) { sums[i][v] = Load(c); });
  for (int i = 0; i < R; ++i) {
    T row[N * kLanes<T>] = {};
    std::copy_n(tile.c + i * tile.c_stride, tile.columns, row);
    for (int v = 0; v < N; ++v) sums[i][v] = Load(row + v * kLanes<T>);
  }
}

template <class T, int R, int N>
[[gnu::always_inline]] inline void StoreTile(const Tile<T>& tile, const Vec<T> (&sums)[R][N]) {
  if (tile.columns == N * kLanes<T>) [[likely]] {
    if (tile.store == StoreKind::kStreamed)
      return ForEachVector<T, R, N>(tile, [&](int i, int v, T* c) { StreamStore(c, sums[i][v]); });
    return ForEachVector<T, R, N>(tile, [&](int i, int v, T* c) { Store(c, sums[i][v]); });
  }
  for (int i = 0; i < R; ++i) {
    T row[N * kLanes<T>];
    for (int v = 0; v < N; ++v) Store(row + v * kLanes<T>, sums[i][v]);
    std::copy_n(row, tile.columns, tile.c + i * tile.c_stride);
  }
}

template <class T, int R, int N>
void RunTile(const Tile<T>& tile) {
  constexpr int kL = kLanes<T>;
  if (const T* c = tile.fetch_c) {
    for (int i = 0; i < R; ++i, c += tile.c_stride) {
      for (int v = 0; v < N; ++v) __builtin_prefetch(c + v * kL, 1);
    }
  }
  Vec<T> sums[R][N] = {};
  if (tile.add) LoadTile<T, R, N>(tile, sums);
  const T* p = tile.p;
  const T* q = tile.q;
  Prefetcher<T> fetch = *tile.fetch;
  for (int s = 0; s < tile.pieces->count; ++s) {
    Vec<T> piece[R][N] = {};
    const auto step = [&]() __attribute__((always_inline)) {
      Vec<T> row[N];
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) row[v] = Load(q + v * kL);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const Vec<T> value = Broadcast(p[i]);
#pragma GCC unroll 2
        for (int v = 0; v < N; ++v) piece[i][v] += value * row[v];
      }
      p += R;
      q += N * kL;
    };
    const int64_t size = tile.pieces->pieces[s].size;
    if (fetch.active()) {
      for (int64_t k = 0; k < size; ++k) {
        fetch.Step();
        step();
      }
    } else {
      for (int64_t k = 0; k < size; ++k) step();
    }
    const bool first = s == 0 && !tile.add;
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) sums[i][v] = first ? piece[i][v] : piece[i][v] + sums[i][v];
    }
  }
  *tile.fetch = fetch;
  StoreTile<T, R, N>(tile, sums);
}

template <class T>
using TileRun = void (*)(const Tile<T>&);
template <class T, int N, int... R>
constexpr auto TileRuns(std::integer_sequence<int, R...>) {
  return std::array<TileRun<T>, sizeof...(R)>{&RunTile<T, R + 1, N>...};
}
template <class T>
TileRun<T> RunOf(int rows, int vectors) {
  using Rows = std::make_integer_sequence<int, kMostRows>;
  static constexpr auto one = TileRuns<T, 1>(Rows{}), two = TileRuns<T, 2>(Rows{});
  return (vectors == 1 ? one : two)[rows - 1];
}

// Rows of a for the tiles [first, end), packed tile after tile.
template <class T>
void PackRows(const RangesProduct<T>& product, const Pieces& pieces, const EvenParts& tiles, int64_t first,
              int64_t end, T* to) {
  const Operand<T> a{product.a, product.m, false};
  for (int s = 0; s < pieces.count; ++s) {
    const auto& [begin, size, offset] = pieces.pieces[s];
    for (int64_t i = first; i < end; ++i) {
      const int64_t rows = tiles.length(i), skipped = tiles.begin(i) - tiles.begin(first);
      Pack<T>(static_cast<int>(rows))(a, tiles.begin(i), begin, size,
                                      to + skipped * pieces.num_k + rows * offset);
    }
  }
}

template <class T>
void PackColumns(const RangesProduct<T>& product, const Pieces& pieces, int64_t n0, int64_t num_n, T* to) {
  const Operand<T> b{product.b, product.n, false};
  for (int s = 0; s < pieces.count; ++s) {
    const auto& [begin, size, offset] = pieces.pieces[s];
    for (int64_t j = 0; j < Panel<T>::Count(num_n); ++j) {
      const Panel<T> panel(j, num_n);
      PackPanel(b, n0 + panel.begin, panel.columns, panel.width(), begin, size,
                to + panel.begin * pieces.num_k + offset * panel.width());
    }
  }
}

// Asks for the rows of a of the next tiles, evenly over the steps of these ones.
template <class T>
class RowFetch {
 public:
  RowFetch(const RangesProduct<T>& product, const Pieces& pieces, Range columns, int64_t calls) : count_(0) {
    if (columns.size() == 0) return;
    for (; count_ < pieces.count; ++count_) {
      const auto& piece = pieces.pieces[count_];
      fetch_[count_] = {product.a + piece.begin * product.m + columns.begin, piece.size, columns.size(),
                        product.m, calls * piece.size};
    }
  }
  Prefetcher<T>* Current() {
    while (current_ + 1 < count_ && !fetch_[current_].active()) ++current_;
    return &fetch_[current_];
  }

 private:
  std::array<Prefetcher<T>, kMostPieces> fetch_;
  int count_, current_ = 0;
};

template <class T>
void AddPieces(const RangesProduct<T>& product, const Pieces& pieces, bool add, StoreKind store) {
  T* const packed_p = reinterpret_cast<T*>(pack_buffers.p);
  T* const packed_q = reinterpret_cast<T*>(pack_buffers.q);
  const int64_t num_k = pieces.num_k, m = product.m, n = product.n;
  const int64_t most_n =
      kPackedQBytes / static_cast<int64_t>(sizeof(T)) / num_k / kTileColumns<T> * kTileColumns<T>;
  const EvenParts tiles(m, kMostRows);
  for (int64_t n0 = 0; n0 < n; n0 += most_n) {
    const int64_t num_n = std::min(most_n, n - n0), num_panels = Panel<T>::Count(num_n);
    PackColumns(product, pieces, n0, num_n, packed_q);
    for (int64_t first = 0; first < tiles.count; first += kPackedTiles) {
      const int64_t end = std::min(tiles.count, first + kPackedTiles);
      const int64_t next_end = std::min(tiles.count, end + kPackedTiles);
      PackRows(product, pieces, tiles, first, end, packed_p);
      RowFetch<T> fetch(product, pieces, {tiles.begin(end), tiles.begin(next_end)},
                        (end - first) * num_panels);
      for (int64_t i = first; i < end; ++i) {
        const int rows = static_cast<int>(tiles.length(i));
        for (int64_t j = 0; j < num_panels; ++j) {
          const Panel<T> panel(j, num_n);
          T* const c = product.c + tiles.begin(i) * n + n0 + panel.begin;
          // The next tile: in this row or the first of the next row.
          const T* const next_c = j + 1 < num_panels    ? c + kTileColumns<T>
                                  : i + 1 < tiles.count ? product.c + tiles.begin(i + 1) * n + n0
                                                        : nullptr;
          RunOf<T>(rows, panel.vectors)({.pieces = &pieces,
                                         .p = packed_p + (tiles.begin(i) - tiles.begin(first)) * num_k,
                                         .q = packed_q + panel.begin * num_k,
                                         .c = c,
                                         .c_stride = n,
                                         .add = add,
                                         .store = store,
                                         .columns = panel.columns,
                                         .fetch_c = store == StoreKind::kStreamed ? nullptr : next_c,
                                         .fetch = fetch.Current()});
        }
        PollPoint();
      }
    }
  }
}

}  // namespace

template <class T>
void GemmOfRanges(const RangesProduct<T>& product, std::span<const Range> ranges) {
  CHECK(!ranges.empty());
  Pieces pieces;
  bool add = product.add;
  for (const Range& range : ranges) {
    CHECK(range.size() > 0 && range.size() < std::min(product.m, product.n))
        << range.size() << " rows for " << product.m << " x " << product.n;
    for (int64_t k = range.begin; k < range.end; k += kDirectK) {
      const int64_t size = std::min(kDirectK, range.end - k);
      if (pieces.Add(k, size)) continue;
      AddPieces(product, pieces, std::exchange(add, true), StoreKind::kCached);
      pieces = {};
      pieces.Add(k, size);
    }
  }
  const bool streams = product.store == StoreKind::kStreamed && !add && product.n % kLanes<T> == 0 &&
                       reinterpret_cast<uintptr_t>(product.c) % kVectorBytes == 0;
  AddPieces(product, pieces, add, streams ? StoreKind::kStreamed : StoreKind::kCached);
  if (streams) EndStreaming();
}

template void GemmOfRanges(const RangesProduct<float>&, std::span<const Range>);
template void GemmOfRanges(const RangesProduct<double>&, std::span<const Range>);

}  // namespace unipool
