#include "kernels/cpu/gemm_tile.h"

#include <array>
#include <cstring>
#include <utility>

#include "runtime/errors.h"

namespace unipool {
namespace {

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

// Runs step a.k times, and fetches meanwhile what a.fetch says.
template <class T, class Step>
[[gnu::always_inline]] inline void ForEachK(const TileArgs<T>& a, const Step& step) {
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
  const auto step = [&]() __attribute__((always_inline)) {
    Vec<T> row[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) row[v] = Load(q + v * kLanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec<T> value = Broadcast(p[i]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) acc[i][v] += value * row[v];
    }
    p += a.p_stride;
    q += a.q_stride;
  };
  ForEachK(a, step);
  StoreRows<T, R, N>(a, acc);
}

template <class T, int R, int N>
void RowsTile(const TileArgs<T>& a) {
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
  const auto step = [&]() __attribute__((always_inline)) {
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
    q += a.q_stride;
  };
  ForEachK(a, step);
  StoreRows<T, R, N>(a, acc);
}

template <class T, int M, int R>
void Dots(const DotArgs<T>& a) {
  constexpr int kL = kLanes<T>;
  Vec<T> acc[M][R] = {};
  int64_t k = 0;
  for (; k + kL <= a.k; k += kL) {
    Vec<T> row[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      row[r] = Load(a.w + r * a.w_stride + k);
      __builtin_prefetch(a.w + (r + 2 * kMostDotWeights) * a.w_stride + k);  // two tiles ahead
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const Vec<T> value = Load(a.x + m * a.x_stride + k);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[m][r] += value * row[r];
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      T sum = SumLanes<T>(acc[m][r]);
      for (int64_t j = k; j < a.k; ++j) sum += a.x[m * a.x_stride + j] * a.w[r * a.w_stride + j];
      a.sums[m * R + r] = sum;
    }
  }
}

// A function for each number of rows, 1 .. MostRows(kForm), so that a remainder costs what it is worth.
template <class T, TileForm kForm, int R, int N>
constexpr TileFunction<T> Function() {
  if constexpr (kForm == TileForm::kDirect)
    return &DirectTile<T, R, N>;
  else
    return &RowsTile<T, R, N>;
}
template <class T, TileForm kForm, int N, int... R>
constexpr auto Table(std::integer_sequence<int, R...>) {
  return std::array<TileFunction<T>, sizeof...(R)>{Function<T, kForm, R + 1, N>()...};
}
template <class T, TileForm kForm>
TileFunction<T> Find(int rows, int vectors) {
  using Rows = std::make_integer_sequence<int, MostRows(kForm)>;
  static constexpr auto one = Table<T, kForm, 1>(Rows{}), two = Table<T, kForm, 2>(Rows{});
  return (vectors == 1 ? one : two)[rows - 1];
}

template <class T, int... I>
constexpr auto DotTable(std::integer_sequence<int, I...>) {
  return std::array{&Dots<T, I / kMostDotWeights + 1, I % kMostDotWeights + 1>...};
}

}  // namespace

template <class T>
TileFunction<T> TileFor(TileForm form, int rows, int vectors) {
  DCHECK(rows >= 1 && rows <= MostRows(form) && (vectors == 1 || vectors == 2)) << rows << " x " << vectors;
  switch (form) {
    case TileForm::kDirect:
      return Find<T, TileForm::kDirect>(rows, vectors);
    case TileForm::kRows:
      return Find<T, TileForm::kRows>(rows, vectors);
  }
  LOG(FATAL) << "unknown form";
}

template <class T>
void DotTile(int m, int num_w, const DotArgs<T>& args) {
  static constexpr auto functions =
      DotTable<T>(std::make_integer_sequence<int, kMostDotRows * kMostDotWeights>{});
  functions[(m - 1) * kMostDotWeights + num_w - 1](args);
}

template TileFunction<float> TileFor<float>(TileForm, int, int);
template TileFunction<double> TileFor<double>(TileForm, int, int);
template void DotTile(int, int, const DotArgs<float>&);
template void DotTile(int, int, const DotArgs<double>&);

}  // namespace unipool
