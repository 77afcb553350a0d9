// The innermost part of a product: a tile of the result kept in registers while k runs. Two forms:
//   DirectTile   tile[i][j] = sum_k p[k][i] * q[k][j]; p packed, q packed or not; stored as rows of c
//   SwappedTile  the same with p read where it lies, p[i][k]; stored transposed. For x W^T with few rows x:
//   the weight is
//                p, read once from memory with no copy, and x (small) is q.
//   DotTile      dot products of rows, for the very few rows that would leave most of a vector empty.
// p is broadcast, q is loaded as vectors.
#pragma once

#include <cstring>

#include "kernels/simd.h"

namespace unipool {

inline constexpr int kTileVectors = 2;  // vectors a row of a tile
inline constexpr int kDirectRows = kVectorRegisters == 32 ? 14 : 6;
inline constexpr int kSwappedRows = kVectorRegisters == 32 ? 12 : 4;
template <class T>
inline constexpr int kTileColumns = kTileVectors* kLanes<T>;

enum class StoreKind : uint8_t {
  kCached,
  kStreamed
};  // streamed goes past the caches: for results larger than them

// Memory that will be read next, fetched into L2 a piece per step of a tile's k loop while it computes: rows
// of `row` elements, `stride` apart, `lines` (1 or 2) cache lines a step. Each tile goes on where the one
// before stopped.
template <class T>
class Prefetcher {
 public:
  Prefetcher() = default;
  Prefetcher(const T* data, int64_t rows, int64_t row, int64_t stride, int lines)
      : at_(data),
        row_end_(data + row),
        rows_left_(rows),
        row_(row),
        stride_(stride),
        piece_(lines * kLine) {}
  bool active() const { return rows_left_ > 0; }
  [[gnu::always_inline]] void Step() {
    __builtin_prefetch(at_, 0, 2);
    __builtin_prefetch(at_ + piece_ - kLine, 0, 2);
    at_ += piece_;
    if (at_ >= row_end_) [[unlikely]]
      NextRow();
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(T);
  void NextRow() {
    if (--rows_left_ <= 0) {  // the end: the last piece again, harmless
      at_ = row_end_ - piece_;
      return;
    }
    at_ = row_end_ - row_ + stride_;
    row_end_ = at_ + row_;
  }
  const T* at_ = nullptr;
  const T* row_end_ = nullptr;
  int64_t rows_left_ = 0, row_ = 0, stride_ = 0, piece_ = kLine;
};

template <class T>
struct TileArgs {
  int64_t k;
  const T* p;
  int64_t p_stride;  // SwappedTile: elements between rows of p
  const T* q;
  int64_t q_stride;  // DirectTile: elements from q[k] to q[k + 1]
  T* c;
  int64_t c_stride;
  T alpha, beta;  // SwappedTile: unused, the plain sum is stored
  int columns;    // valid columns of the tile, up to its width
  StoreKind store = StoreKind::kCached;
  const T* fetch_c = nullptr;      // DirectTile: the tile of c to fetch meanwhile, this one or a later one
  Prefetcher<T>* fetch = nullptr;  // DirectTile: what else to fetch
  const T* next_p = nullptr;       // SwappedTile: rows of p to fetch meanwhile
};

template <class T>
[[gnu::always_inline]] inline void StreamStore(T* to, const Vec<T>& value) {
#if defined(__AVX512F__)
  typedef double Bits __attribute__((vector_size(64)));
  __builtin_ia32_movntpd512(reinterpret_cast<double*>(to), reinterpret_cast<const Bits&>(value));
#else
  Store(to, value);
#endif
}

template <class T, int R, int N>
[[gnu::always_inline]] inline void StoreRows(const TileArgs<T>& a, Vec<T> (&acc)[R][N]) {
  constexpr int kL = kLanes<T>;
  if (a.columns < N * kL) [[unlikely]] {
    T row[N * kL];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) Store(row + v * kL, acc[i][v]);
      T* c = a.c + i * a.c_stride;
      for (int j = 0; j < a.columns; ++j) c[j] = a.alpha * row[j] + (a.beta == 0 ? 0 : a.beta * c[j]);
    }
    return;
  }
  const Vec<T> alpha = Broadcast(a.alpha), beta = Broadcast(a.beta);
  const auto for_each = [&](auto&& body) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) body(a.c + i * a.c_stride + v * kL, alpha * acc[i][v]);
    }
  };
  if (a.beta != 0) {
    for_each([&](T* c, const Vec<T>& value) { Store(c, value + beta * Load(c)); });
  } else if (a.store == StoreKind::kStreamed) {
    for_each([&](T* c, const Vec<T>& value) { StreamStore(c, value); });
  } else {
    for_each([&](T* c, const Vec<T>& value) { Store(c, value); });
  }
}

template <class T, int R, int N>
void DirectTile(const TileArgs<T>& a) {
  Vec<T> acc[R][N] = {};
  const T* p = a.p;
  const T* q = a.q;
  if (const T* c = a.fetch_c) {
    for (int i = 0; i < R; ++i, c += a.c_stride) {
      for (int v = 0; v < N; ++v) __builtin_prefetch(c + v * kLanes<T>, 1);
    }
  }
  const auto step = [&] {
    Vec<T> row[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) row[v] = Load(q + v * kLanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec<T> value = Broadcast(p[i]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) acc[i][v] += value * row[v];
    }
    p += R;
    q += a.q_stride;
  };
  if (a.fetch && a.fetch->active()) {
    Prefetcher<T> fetch = *a.fetch;
    for (int64_t k = 0; k < a.k; ++k) {
      fetch.Step();
      step();
    }
    *a.fetch = fetch;
  } else {
    for (int64_t k = 0; k < a.k; ++k) step();
  }
  StoreRows<T, R, N>(a, acc);
}

// acc[i][v] holds column i, rows v * lanes ... of the result.
template <class T, int R, int N>
[[gnu::always_inline]] inline void StoreTransposed(const TileArgs<T>& a, Vec<T> (&acc)[R][N]) {
  constexpr int kL = kLanes<T>;
#pragma GCC unroll 4
  for (int v = 0; v < N; ++v) {
#pragma GCC unroll 4
    for (int begin = 0; begin < R; begin += kL) {
      Vec<T> square[kL] = {};
      const int count = R - begin < kL ? R - begin : kL;
#pragma GCC unroll 16
      for (int i = 0; i < count; ++i) square[i] = acc[begin + i][v];
      TransposeSquare<T>(square);
      T* c = a.c + v * kL * a.c_stride + begin;
#pragma GCC unroll 16
      for (int j = 0; j < kL; ++j) {
        if (v * kL + j < a.columns) std::memcpy(c + j * a.c_stride, &square[j], count * sizeof(T));
      }
    }
  }
}

template <class T, int R, int N>
void SwappedTile(const TileArgs<T>& a) {
  constexpr int kLine = 64 / sizeof(T);
  Vec<T> acc[R][N] = {};
  const int64_t r = a.p_stride;
  const T* p0 = a.p;  // three pointers and two strides reach twelve rows
  const T* p1 = p0 + 4 * r;
  const T* p2 = p1 + 4 * r;
  const int64_t r3 = 3 * r;
  const T* q = a.q;
  const auto at = [&](int i) {
    const T* base = i < 4 ? p0 : i < 8 ? p1 : p2;
    return (i & 3) == 0 ? base[0] : (i & 3) == 1 ? base[r] : (i & 3) == 2 ? base[2 * r] : base[r3];
  };
  const auto step = [&] {
    Vec<T> row[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) row[v] = Load(q + v * kLanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec<T> value = Broadcast(at(i));
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) acc[i][v] += value * row[v];
    }
    ++p0, ++p1, ++p2;
    q += N * kLanes<T>;
  };
  int64_t k = 0;
  for (; k + kLine <= a.k; k += kLine) {
    if (a.next_p) {
      for (int i = 0; i < R; ++i) __builtin_prefetch(a.next_p + i * r + k);
    }
    for (int u = 0; u < kLine; ++u) step();
  }
  for (; k < a.k; ++k) step();
  StoreTransposed<T, R, N>(a, acc);
}

// Few rows of x (M) against R rows of w, all contiguous along k: dot products, no copies. sums[m][r].
template <class T, int M, int R>
void DotTile(int64_t k, const T* x, int64_t x_stride, const T* w, int64_t w_stride, T* sums) {
  constexpr int kL = kLanes<T>;
  Vec<T> acc[M][R] = {};
  int64_t i = 0;
  for (; i + kL <= k; i += kL) {
    Vec<T> row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) row[r] = Load(w + r * w_stride + i);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vec<T> value = Load(x + m * x_stride + i);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[m][r] += value * row[r];
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int r = 0; r < R; ++r) {
      T sum = 0;
      for (int j = 0; j < kL; ++j) sum += acc[m][r][j];
      for (int64_t j = i; j < k; ++j) sum += x[m * x_stride + j] * w[r * w_stride + j];
      sums[m * R + r] = sum;
    }
  }
}

}  // namespace unipool
