#include "kernels/cpu/gemm_blocked.h"

#include <algorithm>

#include "kernels/cpu/gemm_pack.h"
#include "runtime/poll_point.h"

namespace unipool {
namespace {

constexpr int64_t kSwappedK = 1024;         // the most that leaves room for 128 packed rows
constexpr int64_t kFetchBytes = 128 << 10;  // of b fetched ahead
constexpr int64_t kUnpackedTiles = 8;       // up to so many row tiles read b where it lies
constexpr int kDirectRows = MostRows(TileForm::kDirect), kSwappedRows = MostRows(TileForm::kRows);
// Columns of c finished at a time: whole tiles and whole vectors.
constexpr int kSwappedColumns = 4 * kSwappedRows;

template <class T>
struct Product {
  GemmShape shape;
  T alpha, beta;
  Operand<T> a, b;  // a as [m, k], b as [n, k]
  T* c;
  int64_t ldc;
  GemmHints<T> hints;

  // c in column blocks, each row of it in order: for results larger than the operands (weight gradients).
  void RunRowByRow() const;
  // Panel after panel of b, each used by all rows: for operands larger than the result (input gradients).
  void RunPanelByPanel() const;
  // Tile after tile of b read in place, for x W^T with few rows.
  void RunSwapped() const;
  // Dot products, for x W^T with very few rows.
  void RunDots() const;

  T BetaAt(int64_t k0) const { return k0 == 0 ? beta : T(1); }
  // c gets whole aligned vectors, overwritten, in one block of at most most_k.
  bool Streams(int64_t most_k) const {
    return hints.store == StoreKind::kStreamed && shape.k <= most_k && beta == 0 && ldc % kLanes<T> == 0 &&
           reinterpret_cast<uintptr_t>(c) % kVectorBytes == 0;
  }
  void AddTransposed(const T* block, int64_t block_stride, int64_t m0, int64_t num_m, int64_t n0,
                     int64_t num_n, T block_beta, StoreKind store) const;
};

template <class T>
void Product<T>::RunRowByRow() const {
  T* const packed_p = reinterpret_cast<T*>(pack_buffers.p);
  T* const packed_q = reinterpret_cast<T*>(pack_buffers.q);
  const StoreKind store = Streams(kDirectK) ? StoreKind::kStreamed : StoreKind::kCached;
  // c comes from memory: a tile is fetched some tiles ahead, the shorter their time the more of them.
  const int64_t ahead = shape.k >= 192 ? 0 : shape.k >= 64 ? 1 : shape.k >= 24 ? 2 : 4;
  for (int64_t k0 = 0; k0 < shape.k; k0 += kDirectK) {
    const int64_t num_k = std::min(kDirectK, shape.k - k0);
    const int64_t most_n =
        kPackedQBytes / static_cast<int64_t>(sizeof(T)) / num_k / kTileColumns<T> * kTileColumns<T>;
    for (int64_t n0 = 0; n0 < shape.n; n0 += most_n) {
      const int64_t num_n = std::min(most_n, shape.n - n0);
      const int64_t num_panels = Panel<T>::Count(num_n);
      PackPanels(b, n0, num_n, k0, num_k, packed_q);
      const EvenParts tiles(shape.m, kDirectRows);
      for (int64_t i = 0; i < tiles.count; ++i) {
        const int rows = static_cast<int>(tiles.length(i));
        Pack<T>(rows)(a, tiles.begin(i), k0, num_k, packed_p);
        for (int64_t j = 0; j < num_panels; ++j) {
          const Panel<T> panel(j, num_n);
          TileArgs<T> args{num_k,         packed_p,
                           rows,          packed_q + panel.begin * num_k,
                           panel.width(), c + tiles.begin(i) * ldc + n0 + panel.begin,
                           ldc,           alpha,
                           BetaAt(k0),    panel.columns};
          args.store = store;
          const int64_t later = i * num_panels + j + ahead;
          if (store == StoreKind::kCached && later < tiles.count * num_panels) {
            args.fetch_c =
                c + tiles.begin(later / num_panels) * ldc + n0 + later % num_panels * kTileColumns<T>;
          }
          TileFor<T>(TileForm::kDirect, rows, panel.vectors)(args);
        }
        PollPoint();
      }
    }
  }
  if (store == StoreKind::kStreamed) EndStreaming();
}

template <class T>
void Product<T>::RunPanelByPanel() const {
  T* const packed_p = reinterpret_cast<T*>(pack_buffers.p);
  T* const packed_q = reinterpret_cast<T*>(pack_buffers.q);
  const int64_t most_rows = kPackedPBytes / static_cast<int64_t>(sizeof(T)) / kDirectK;
  const EvenParts blocks(shape.m, most_rows);
  const int64_t num_panels = Panel<T>::Count(shape.n);
  // With one block of rows b is read once: in whole rows, the next k block fetched from memory during this
  // one.
  const bool once = blocks.count == 1 && !b.k_contiguous;
  const int64_t most_k =
      once ? std::clamp<int64_t>(kFetchBytes / static_cast<int64_t>(sizeof(T)) / shape.n / 16 * 16, 64,
                                 kDirectK)
           : kDirectK;
  for (int64_t k0 = 0; k0 < shape.k; k0 += most_k) {
    const int64_t num_k = std::min(most_k, shape.k - k0);
    for (int64_t block = 0; block < blocks.count; ++block) {
      const int64_t m0 = blocks.begin(block);
      const EvenParts tiles(blocks.length(block), kDirectRows);
      for (int64_t i = 0; i < tiles.count; ++i) {
        Pack<T>(static_cast<int>(tiles.length(i)))(a, m0 + tiles.begin(i), k0, num_k,
                                                   packed_p + tiles.begin(i) * num_k);
      }
      const int64_t num_steps = num_panels * tiles.count * num_k;
      Prefetcher<T> fetch;
      if (once && k0 + most_k < shape.k) {
        fetch = {b.at(0, k0 + most_k), std::min(most_k, shape.k - k0 - most_k), shape.n, b.stride, num_steps};
      } else if (once && hints.next_b) {
        fetch = {hints.next_b, std::min(most_k, shape.k), shape.n, b.stride, num_steps};
      }
      for (int64_t j = 0; j < num_panels; ++j) {
        const Panel<T> panel(j, shape.n);
        TileArgs<T> args{num_k,   nullptr, 0,     packed_q,   panel.width(),
                         nullptr, ldc,     alpha, BetaAt(k0), panel.columns};
        if (once && tiles.count <= kUnpackedTiles && panel.columns == panel.width()) {
          args.q = b.at(panel.begin, k0);  // used by few tiles: not worth a copy
          args.q_stride = b.stride;
        } else {
          PackPanel(b, panel.begin, panel.columns, panel.width(), k0, num_k, packed_q);
        }
        if (!b.k_contiguous && !once && j + 1 < num_panels) {
          fetch = {b.at(panel.begin + kTileColumns<T>, k0), num_k, Panel<T>(j + 1, shape.n).columns, b.stride,
                   tiles.count * num_k};
        }
        args.fetch = &fetch;
        for (int64_t i = 0; i < tiles.count; ++i) {
          args.p = packed_p + tiles.begin(i) * num_k;
          args.c = c + (m0 + tiles.begin(i)) * ldc + panel.begin;
          args.fetch_c = args.c;
          args.p_stride = tiles.length(i);
          TileFor<T>(TileForm::kDirect, static_cast<int>(tiles.length(i)), panel.vectors)(args);
        }
        PollPoint();
      }
    }
  }
}

// c[m0.., n0..] gets a finished block of the product that lies as [num_n, block_stride].
template <class T>
void Product<T>::AddTransposed(const T* block, int64_t block_stride, int64_t m0, int64_t num_m, int64_t n0,
                               int64_t num_n, T block_beta, StoreKind store) const {
  constexpr int kL = kLanes<T>;
  const Vec<T> scale = Broadcast(alpha), old_scale = Broadcast(block_beta);
  for (int64_t n = 0; n < num_n; n += kL) {
    const int64_t columns = std::min<int64_t>(kL, num_n - n);
    for (int64_t m = 0; m < num_m; m += kL) {
      Vec<T> square[kL];
#pragma GCC unroll 16
      for (int i = 0; i < kL; ++i) square[i] = Load(block + (n + i) * block_stride + m);
      TransposeSquare<T>(square);
      const int64_t rows = std::min<int64_t>(kL, num_m - m);
      T* to = c + (m0 + m) * ldc + n0 + n;
      if (columns == kL) {
#pragma GCC unroll 16
        for (int i = 0; i < kL; ++i, to += ldc) {
          if (i >= rows) break;
          if (store == StoreKind::kStreamed) {
            StreamStore(to, scale * square[i]);
          } else {
            Store(to, block_beta == 0 ? scale * square[i] : scale * square[i] + old_scale * Load(to));
          }
        }
      } else {
        for (int64_t i = 0; i < rows; ++i, to += ldc) {
          T row[kL];
          Store(row, square[i]);
          for (int64_t j = 0; j < columns; ++j) {
            to[j] = block_beta == 0 ? alpha * row[j] : alpha * row[j] + block_beta * to[j];
          }
        }
      }
    }
  }
}

template <class T>
void Product<T>::RunSwapped() const {
  T* const block = reinterpret_cast<T*>(pack_buffers.p);
  T* const packed_q = reinterpret_cast<T*>(pack_buffers.q);
  // Few rows: long k, so that the result is added to rarely; more rows: shorter k, so that b is read once for
  // all.
  constexpr int64_t capacity = kPackedQBytes / static_cast<int64_t>(sizeof(T));
  const int64_t most_k = shape.m <= capacity / kSwappedK ? kSwappedK : kSwappedK / 2;
  const int64_t most_rows = capacity / most_k;
  const StoreKind store = Streams(most_k) ? StoreKind::kStreamed : StoreKind::kCached;
  for (int64_t k0 = 0; k0 < shape.k; k0 += most_k) {
    const int64_t num_k = std::min(most_k, shape.k - k0);
    for (int64_t m0 = 0; m0 < shape.m; m0 += most_rows) {
      const int64_t num_m = std::min(most_rows, shape.m - m0);
      const int64_t num_panels = Panel<T>::Count(num_m);
      const int64_t block_stride = PackedColumns<T>(num_m);
      PackPanels(a, m0, num_m, k0, num_k, packed_q);
      for (int64_t n0 = 0; n0 < shape.n; n0 += kSwappedColumns) {
        const int64_t num_n = std::min<int64_t>(kSwappedColumns, shape.n - n0);
        for (int64_t i = 0; i < num_n; i += kSwappedRows) {
          const int rows = static_cast<int>(std::min<int64_t>(kSwappedRows, num_n - i));
          const int64_t later = n0 + i + kSwappedRows;
          Prefetcher<T> fetch;
          if (later + kSwappedRows <= shape.n) {
            fetch = {b.at(later, k0), kSwappedRows, num_k, b.stride, num_panels * num_k};
          }
          for (int64_t j = 0; j < num_panels; ++j) {
            const Panel<T> panel(j, num_m);
            TileArgs<T> args{num_k,
                             b.at(n0 + i, k0),
                             b.stride,
                             packed_q + panel.begin * num_k,
                             panel.width(),
                             block + i * block_stride + panel.begin,
                             block_stride,
                             1,
                             0,
                             panel.width()};
            args.fetch = &fetch;
            TileFor<T>(TileForm::kRows, rows, panel.vectors)(args);
          }
        }
        AddTransposed(block, block_stride, m0, num_m, n0, num_n, BetaAt(k0), store);
        PollPoint();
      }
    }
  }
  if (store == StoreKind::kStreamed) EndStreaming();
}

template <class T>
void Product<T>::RunDots() const {
  T sums[kMostDotRows * kMostDotWeights];
  for (int64_t n0 = 0; n0 < shape.n; n0 += kMostDotWeights) {
    const int num_n = static_cast<int>(std::min<int64_t>(kMostDotWeights, shape.n - n0));
    DotTile<T>(static_cast<int>(shape.m), num_n, {shape.k, a.data, a.stride, b.at(n0, 0), b.stride, sums});
    for (int64_t i = 0; i < shape.m; ++i) {
      for (int j = 0; j < num_n; ++j) {
        T& out = c[i * ldc + n0 + j];
        out = alpha * sums[i * num_n + j] + (beta == 0 ? 0 : beta * out);
      }
    }
  }
}

template <class T>
void Scale(GemmShape shape, T beta, T* c, int64_t ldc) {
  for (int64_t i = 0; i < shape.m; ++i) {
    for (int64_t j = 0; j < shape.n; ++j) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
  }
}

}  // namespace

template <class T>
void GemmBlocked(Trans trans_a, Trans trans_b, GemmShape shape, T alpha, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T beta, T* c, int64_t ldc, GemmHints<T> hints) {
  if (shape.m == 0 || shape.n == 0) return;
  if (shape.k == 0) return Scale(shape, beta, c, ldc);
  const bool ta = trans_a == Trans::kYes, tb = trans_b == Trans::kYes;
  const Product<T> product{shape, alpha, beta, {a, lda, !ta}, {b, ldb, tb}, c, ldc, hints};
  if (tb && !ta && shape.m <= kMostDotRows) return product.RunDots();
  // Swapped transposes the result, otherwise b is transposed while packed: do the smaller.
  if (tb && shape.m < shape.k) return product.RunSwapped();
  if (shape.k < shape.m && shape.k < shape.n) return product.RunRowByRow();
  product.RunPanelByPanel();
}

template void GemmBlocked(Trans, Trans, GemmShape, float, const float*, int64_t, const float*, int64_t, float,
                          float*, int64_t, GemmHints<float>);
template void GemmBlocked(Trans, Trans, GemmShape, double, const double*, int64_t, const double*, int64_t,
                          double, double*, int64_t, GemmHints<double>);

}  // namespace unipool
