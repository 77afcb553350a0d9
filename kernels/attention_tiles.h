// The steps of attention on a tile of query rows that stays in the nearest cache: products with packed keys
// or values, and the softmax between them.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/gemm_pack.h"
#include "kernels/vector_math.h"

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

// scores[j] = e^(scores[j] - shift) for j < valid, 0 for the rest up to `width` and to the end of its vector;
// returns their sum.
template <class T>
T ExpRow(T* scores, T shift, int64_t valid, int64_t width) {
  constexpr int kL = kLanes<T>;
  const Vec<T> zero = {}, lanes = LaneIndices<T>();
  Vec<T> sum = {};
  int64_t j = 0;
  for (; j + kL <= valid; j += kL) {
    const Vec<T> value = Exp<T>(Load(scores + j) - shift);
    sum += value;
    Store(scores + j, value);
  }
  for (; j < width; j += kL) {
    const Vec<T> value =
        lanes < Broadcast(static_cast<T>(valid - j)) ? Exp<T>(Load(scores + j) - shift) : zero;
    sum += value;
    Store(scores + j, value);
  }
  return SumLanes<T>(sum);
}

template <class T>
T MaxOfRow(const T* scores, int64_t valid) {
  constexpr int kL = kLanes<T>;
  Vec<T> largest = Broadcast(scores[0]);
  int64_t j = 0;
  for (; j + kL <= valid; j += kL) {
    const Vec<T> value = Load(scores + j);
    largest = value > largest ? value : largest;
  }
  T result = MaxLanes<T>(largest);
  for (; j < valid; ++j) result = std::max(result, scores[j]);
  return result;
}

// gradient[j] = p[j] * (gradient[j] - shift): from the gradient of the probabilities to that of the scores.
template <class T>
void SoftmaxBackwardRow(const T* p, T* gradient, T shift, int64_t width) {
  for (int64_t j = 0; j < width; j += kLanes<T>) {
    Store(gradient + j, Load(p + j) * (Load(gradient + j) - shift));
  }
}

}  // namespace unipool
