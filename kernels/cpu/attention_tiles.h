// The steps of attention on a tile of query rows that stays in the nearest cache. They are products with
// packed keys or values, and the softmax between these products.
#pragma once

#include <algorithm>

#include "kernels/cpu/fast_exp.h"
#include "kernels/cpu/gemm_pack.h"

namespace unipool {

inline constexpr int kAttentionRows = MostRows(TileForm::kRows);

// A matrix [num_k, columns] in panels (PackPanels). Used from k = first_k.
template <class T>
struct PackedMatrix {
  const T* data;
  int64_t num_k, columns;
  int64_t first_k = 0;
};

// A result in rows; padded says that whole vectors may be written beyond the wanted columns.
template <class T>
struct ResultRows {
  T* data;
  int64_t stride;
  bool padded = false;
};

// c [rows, columns] = alpha * p q + beta * c over k products, q's first `columns` columns. p lies as `form`
// says.
template <class T>
void TileTimesPacked(TileForm form, int rows, const T* p, int64_t p_stride, int64_t k,
                     const PackedMatrix<T>& q, int64_t columns, T alpha, T beta, const ResultRows<T>& c) {
  for (int64_t j = 0; j < Panel<T>::Count(columns); ++j) {
    const Panel<T> panel(j, q.columns);
    TileArgs<T> args{};
    args.k = k;
    args.p = p;
    args.p_stride = p_stride;
    args.q = q.data + panel.begin * q.num_k + q.first_k * panel.width();
    args.q_stride = panel.width();
    args.c = c.data + panel.begin;
    args.c_stride = c.stride;
    args.alpha = alpha;
    args.beta = beta;
    args.columns = c.padded ? panel.width() : panel.columns;
    TileFor<T>(form, rows, panel.vectors)(args);
  }
}

// Asks for the rows of the next tile. They lie far apart, and without this each would be waited for.
template <class T>
void FetchRows(const T* data, int64_t stride, int64_t columns) {
  for (int i = 0; i < kAttentionRows; ++i) {
    for (int64_t j = 0; j < columns; j += 64 / static_cast<int64_t>(sizeof(T)))
      __builtin_prefetch(data + i * stride + j);
  }
}

// scores[j] = e^(scores[j] - shift) for j < valid and 0 from there to `width` and to the end of its vector;
// returns the sum.
template <class T>
T ExpRow(T* scores, T shift, int64_t valid, int64_t width) {
  constexpr int64_t kL = kLanes<T>;
  const int64_t end = (width + kL - 1) / kL * kL;
  for (int64_t j = 0; j < valid; ++j) scores[j] = FastExp(scores[j] - shift);
  for (int64_t j = valid; j < end; ++j) scores[j] = 0;
  Vec<T> sum = {};
  for (int64_t j = 0; j < end; j += kL) sum += Load(scores + j);
  return SumLanes<T>(sum);
}

template <class T>
T MaxOfRow(const T* scores, int64_t count) {
  Vec<T> largest = Broadcast(scores[0]);
  int64_t j = 0;
  for (; j + kLanes<T> <= count; j += kLanes<T>) {
    const Vec<T> value = Load(scores + j);
    largest = value > largest ? value : largest;
  }
  T result = MaxLanes<T>(largest);
  for (; j < count; ++j) result = std::max(result, scores[j]);
  return result;
}

template <class T>
T Dot(const T* a, const T* b, int64_t count) {
  Vec<T> sums = {};
  int64_t j = 0;
  for (; j + kLanes<T> <= count; j += kLanes<T>) sums += Load(a + j) * Load(b + j);
  T sum = SumLanes<T>(sums);
  for (; j < count; ++j) sum += a[j] * b[j];
  return sum;
}

// gradient[j] = p[j] * (gradient[j] - shift). The gradient of the probabilities becomes the gradient of the
// scores.
template <class T>
void SoftmaxBackwardRow(const T* p, T* gradient, T shift, int64_t width) {
  for (int64_t j = 0; j < width; j += kLanes<T>) {
    Store(gradient + j, Load(p + j) * (Load(gradient + j) - shift));
  }
}

}  // namespace unipool
