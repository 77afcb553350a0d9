// How a product is cut, and its operands copied into the order in which the tiles read them.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/cpu/gemm_tile.h"

namespace unipool {

inline constexpr int64_t kPackedPBytes = 448 << 10,
                         kPackedQBytes = 512 << 10;  // together they stay in a 1 MiB L2
inline constexpr int64_t kDirectK = 256;             // k that a tile sums at once: a q panel stays in L1
struct PackBuffers {
  alignas(64) char p[kPackedPBytes + 2 * kVectorBytes];
  alignas(64) char q[kPackedQBytes];
};
inline constinit thread_local PackBuffers pack_buffers{};

// [0, size) in the fewest parts of at most `most`, as even as possible: 32 in parts of 14 is 11 + 11 + 10.
struct EvenParts {
  EvenParts(int64_t size, int64_t most) : size(size), count((size + most - 1) / most) {}
  int64_t begin(int64_t part) const { return part * size / count; }
  int64_t length(int64_t part) const { return begin(part + 1) - begin(part); }
  int64_t size, count;
};

// Panels of q: whole tiles, the last one as narrow as vectors allow.
template <class T>
struct Panel {
  Panel(int64_t index, int64_t total) : begin(index * kTileColumns<T>) {
    columns = static_cast<int>(std::min<int64_t>(kTileColumns<T>, total - begin));
    vectors = columns <= kLanes<T> ? 1 : kTileVectors;
  }
  static int64_t Count(int64_t total) { return (total + kTileColumns<T> - 1) / kTileColumns<T>; }
  int width() const { return vectors * kLanes<T>; }
  int64_t begin;
  int columns, vectors;
};
// Elements of all panels over `total` columns, for num_k = 1.
template <class T>
int64_t PackedColumns(int64_t total) {
  return (total + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// A matrix seen as [outer, k]. Element (i, k) lies at data[i * stride + k] if k_contiguous, and otherwise at
// data[k * stride + i].
template <class T>
struct Operand {
  const T* data;
  int64_t stride;
  bool k_contiguous;
  const T* at(int64_t i, int64_t k) const {
    return k_contiguous ? data + i * stride + k : data + k * stride + i;
  }
};

// dst[k][i] for i < R is one tile of p. It may write up to a vector beyond the end of dst, because what
// follows there is packed later.
template <class T, int R>
void PackTile(const Operand<T>& src, int64_t i0, int64_t k0, int64_t num_k, T* dst) {
  constexpr int kL = kLanes<T>;
  if (!src.k_contiguous) {
    for (int64_t k = 0; k < num_k; ++k) std::memcpy(dst + k * R, src.at(i0, k0 + k), R * sizeof(T));
    return;
  }
  int64_t k = 0;
  if constexpr (R <= kL) {
    for (; k + kL <= num_k; k += kL) {
      Vec<T> square[kL] = {};
      for (int i = 0; i < R; ++i) square[i] = Load(src.at(i0 + i, k0 + k));
      TransposeSquare<T>(square);
      for (int j = 0; j < kL; ++j) Store(dst + (k + j) * R, square[j]);
    }
  }
  for (; k < num_k; ++k) {
    for (int i = 0; i < R; ++i) dst[k * R + i] = *src.at(i0 + i, k0 + k);
  }
}

template <class T>
using PackFunction = void (*)(const Operand<T>&, int64_t, int64_t, int64_t, T*);
template <class T, int... R>
constexpr auto PackTiles(std::integer_sequence<int, R...>) {
  return std::array<PackFunction<T>, sizeof...(R)>{&PackTile<T, R + 1>...};
}
// The function for a tile of `rows` rows, at most MostRows(TileForm::kDirect).
template <class T>
PackFunction<T> Pack(int rows) {
  static constexpr auto functions =
      PackTiles<T>(std::make_integer_sequence<int, MostRows(TileForm::kDirect)>{});
  return functions[rows - 1];
}

// dst[k][j] for j < width is one panel of q. width is a whole number of vectors. Columns from `columns` on
// become 0.
template <class T>
void PackPanel(const Operand<T>& src, int64_t j0, int columns, int width, int64_t k0, int64_t num_k, T* dst) {
  constexpr int kL = kLanes<T>;
  if (!src.k_contiguous) {
    for (int64_t k = 0; k < num_k; ++k) {
      const T* from = src.at(j0, k0 + k);
      T* to = dst + k * width;
      if (columns == width) {
        for (int v = 0; v < width; v += kL) Store(to + v, Load(from + v));
      } else {
        std::copy_n(from, columns, to);
        std::fill_n(to + columns, width - columns, T(0));
      }
    }
    return;
  }
  for (int v = 0; v < width; v += kL) {
    const int valid = std::clamp(columns - v, 0, kL);
    int64_t k = 0;
    for (; k + kL <= num_k; k += kL) {
      Vec<T> square[kL] = {};
      if (valid == kL) {
#pragma GCC unroll 16
        for (int j = 0; j < kL; ++j) square[j] = Load(src.at(j0 + v + j, k0 + k));
      } else {
        for (int j = 0; j < valid; ++j) square[j] = Load(src.at(j0 + v + j, k0 + k));
      }
      TransposeSquare<T>(square);
#pragma GCC unroll 16
      for (int j = 0; j < kL; ++j) Store(dst + (k + j) * width + v, square[j]);
    }
    for (; k < num_k; ++k) {
      for (int j = 0; j < kL; ++j) dst[k * width + v + j] = j < valid ? *src.at(j0 + v + j, k0 + k) : T(0);
    }
  }
}

// All panels of q one after the other. Panel j begins at dst + j * kTileColumns * num_k.
template <class T>
void PackPanels(const Operand<T>& src, int64_t j0, int64_t total, int64_t k0, int64_t num_k, T* dst) {
  for (int64_t j = 0; j < Panel<T>::Count(total); ++j) {
    const Panel<T> panel(j, total);
    PackPanel(src, j0 + panel.begin, panel.columns, panel.width(), k0, num_k, dst + panel.begin * num_k);
  }
}

}  // namespace unipool
