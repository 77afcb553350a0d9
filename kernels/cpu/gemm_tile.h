// The innermost part of a product. A tile of the result, up to R rows x 2 vectors, stays in registers while k
// runs. q is read as vectors, p is broadcast. The result is stored as rows of c. There are two forms, which
// differ in how p lies:
//   kDirect   tile[i][j] = sum_k p[k * p_stride + i] * q[k * q_stride + j]
//   kRows     tile[i][j] = sum_k p[i * p_stride + k] * q[k * q_stride + j]
// A third function makes dot products of rows, for so few rows that most of a vector would be empty.
#pragma once

#include "kernels/cpu/prefetcher.h"
#include "kernels/cpu/simd.h"

namespace unipool {

inline constexpr int kTileVectors = 2;
template <class T>
inline constexpr int kTileColumns = kTileVectors* kLanes<T>;

enum class TileForm : uint8_t { kDirect, kRows };
// The most rows of a tile. The vector registers limit kDirect, the address registers limit kRows.
constexpr int MostRows(TileForm form) {
  if (kVectorRegisters < 32) return form == TileForm::kDirect ? 6 : 4;
  return form == TileForm::kDirect ? 14 : 12;
}

// kStreamed goes past the caches: for results that are larger than them.
enum class StoreKind : uint8_t { kCached, kStreamed };

template <class T>
struct TileArgs {
  int64_t k;
  const T* p;
  int64_t p_stride;
  const T* q;
  int64_t q_stride;
  T* c;
  int64_t c_stride;
  T alpha, beta;                         // c = alpha * tile + beta * c
  int columns;                           // valid columns of the tile, up to its width
  StoreKind store = StoreKind::kCached;  // kDirect and kRows, beta 0, c aligned to vectors
  const T* fetch_c = nullptr;            // kDirect: the tile of c to fetch meanwhile, this one or a later one
  Prefetcher<T>* fetch = nullptr;        // what else to fetch
};

// The function for a tile of `rows` rows and `vectors` (1 or 2) vectors a row. For float and double.
template <class T>
using TileFunction = void (*)(const TileArgs<T>&);
template <class T>
TileFunction<T> TileFor(TileForm form, int rows, int vectors);

// sums[m * num_w + r] = <x row m, w row r>, both contiguous along k. m <= kMostDotRows, num_w <=
// kMostDotWeights.
inline constexpr int kMostDotRows = 4, kMostDotWeights = 4;
template <class T>
struct DotArgs {
  int64_t k;
  const T* x;
  int64_t x_stride;
  const T* w;
  int64_t w_stride;
  T* sums;
};
template <class T>
void DotTile(int m, int num_w, const DotArgs<T>& args);

}  // namespace unipool
