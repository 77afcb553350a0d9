// Tiles of bf16 rows in shared memory, as the tensor cores' kernels of attention use them: how they lie, how
// they come from global memory, and how they become operands of m16n8k16.
#pragma once

#include "kernels/cuda/mma.h"

namespace unipool::cuda {

inline constexpr int kChunk = 8;  // elements of 16 bytes, which move and lie together

// Where the chunks of a row-major tile of kWidth columns lie, without padding. The chunks of a row are
// permuted. Take 8 rows, from a multiple of 8 on. The same chunk of these rows lies in 8 different groups of
// banks. So ldmatrix has no conflicts.
template <int kWidth>
struct TileLayout {
  static_assert(kWidth % 16 == 0);
  static constexpr int kChunks = kWidth / kChunk;
  // Rows repeat their banks every kRepeat rows; every so many rows the chunks are permuted anew.
  static constexpr int kPermuted = (kChunks & -kChunks) < 8 ? (kChunks & -kChunks) : 8;
  static constexpr int kRepeat = 8 / kPermuted;
  __device__ static int At(int row, int chunk) {
    return (row * kChunks + (chunk ^ (row / kRepeat % kPermuted))) * kChunk;
  }
};

// Rows of one head in global memory: `size` elements each, `stride` elements from one to the next.
struct HeadRows {
  Bf16* data;
  int64_t stride;
  int num_rows, size;
  bool packs;  // rows begin at multiples of 16 bytes and have whole chunks
};

// One chunk by plain loads and stores, where rows do not allow 16-byte accesses.
__device__ inline void CopyChunkByElements(Bf16* to, const Bf16* from, int num_valid) {
  Pack<Bf16, kChunk> chunk;
#pragma unroll
  for (int e = 0; e < kChunk; ++e) chunk.value[e] = e < num_valid ? from[e] : FromFloat<Bf16>(0);
  StorePack(to, chunk);
}

// Fills a tile, zeros where there is no row or no column: for CommitCopies, WaitCopies and a barrier.
template <int kRows, int kWidth, int kThreads>
__device__ inline void CopyTile(Bf16* tile, const HeadRows& from) {
  constexpr int kChunks = TileLayout<kWidth>::kChunks;
  constexpr int kLanes = TileLayout<kWidth>::kPermuted,
                kStep = kThreads / kLanes;  // of a row; rows at a time
  static_assert(kRows % kStep == 0 && kStep % 8 == 0);
  const int first = static_cast<int>(threadIdx.x) / kLanes, chunk = static_cast<int>(threadIdx.x) % kLanes;
  const Bf16* source = from.data + first * from.stride + chunk * kChunk;
  if (!from.packs) {
#pragma unroll 1
    for (int row = first; row < kRows; row += kStep, source += kStep * from.stride) {
#pragma unroll 1
      for (int c = 0; c < kChunks; c += kLanes) {
        CopyChunkByElements(tile + TileLayout<kWidth>::At(row, chunk + c), source + c * kChunk,
                            row < from.num_rows ? from.size - (chunk + c) * kChunk : 0);
      }
    }
    return;
  }
#pragma unroll
  for (int row = 0; row < kRows; row += kStep, source += kStep * from.stride) {
#pragma unroll
    for (int c = 0; c < kChunks; c += kLanes) {
      const bool valid = first + row < from.num_rows && (chunk + c) * kChunk < from.size;
      CopyAsync16(tile + TileLayout<kWidth>::At(first + row, chunk + c),
                  valid ? source + c * kChunk : from.data, valid);
    }
  }
}

// Rows [first, first + kRows) of a tile to global memory, by one warp.
template <int kRows, int kWidth>
__device__ inline void StoreTileRows(const Bf16* tile, int first, const HeadRows& to) {
  constexpr int kChunks = TileLayout<kWidth>::kChunks;
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < kRows * kChunks; i += kWarp) {
    const int row = first + i / kChunks, column = i % kChunks * kChunk;
    if (row >= to.num_rows || column >= to.size) continue;
    const auto chunk = LoadPack<kChunk>(tile + TileLayout<kWidth>::At(row, i % kChunks));
    Bf16* target = to.data + row * to.stride + column;
    if (to.packs) {
      StorePack(target, chunk);
      continue;
    }
#pragma unroll
    for (int e = 0; e < kChunk; ++e) {
      if (column + e < to.size) target[e] = chunk.value[e];
    }
  }
}

// Loads an operand A [16, 16]: 16 rows of a tile from `row` on, 16 columns from 16 k on.
template <int kWidth>
__device__ inline void LoadA(uint32_t (&a)[4], const Bf16* tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  LoadMatrices(a, tile + TileLayout<kWidth>::At(row + lane % 16, 2 * k + lane / 16));
}
// Loads two operands B [16, 8] for products with the tile's transpose: b[0..1] and b[2..3]. Column j of the
// first is row `row + j` of the tile, column j of the second is row `row + 8 + j`. Row i of both is the
// tile's column 16 k + i.
template <int kWidth>
__device__ inline void LoadBOfTranspose(uint32_t (&b)[4], const Bf16* tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  LoadMatrices(b, tile + TileLayout<kWidth>::At(row + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
}
// Loads two operands B [16, 8] for products with the tile. Row i of both is row `row + i` of the tile. Column
// j of the first is the tile's column 16 n + j, column j of the second is 16 n + 8 + j.
template <int kWidth>
__device__ inline void LoadB(uint32_t (&b)[4], const Bf16* tile, int row, int n) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  LoadMatricesTransposed(b, tile + TileLayout<kWidth>::At(row + lane % 16, 2 * n + lane / 16));
}

// Operands A of 16 kRowTiles rows of a tile over all its columns, in registers: for rows that meet many
// tiles.
template <int kRowTiles, int kWidth>
struct HeldRows {
  uint32_t operand[kWidth / 16][kRowTiles][4];

  __device__ void Load(const Bf16* tile, int row) {
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) LoadA<kWidth>(operand[k][r], tile, row + 16 * r, k);
    }
  }
};

// Sums (below) rounded to bf16 in half the registers: a sum's registers are those of an operand A.
template <int kRowTiles, int kColumnTiles>
struct RoundedSums {
  uint32_t operand[kColumnTiles / 2][kRowTiles][4];

  // Element e of column tile c of row tile r in the order of Sums.
  __device__ float Value(int r, int c, int e) const {
    const uint32_t pair = operand[c / 2][r][c % 2 * 2 + e / 2];
    return __uint_as_float(e % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
  }
};

// A warp's share of a matrix of F32 sums, [16 kRowTiles, 8 kColumnTiles], as m16n8k16 leaves it.
template <int kRowTiles, int kColumnTiles>
struct Sums {
  float value[kRowTiles][kColumnTiles][4];

  __device__ void Clear() {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int c = 0; c < kColumnTiles; ++c) {
#pragma unroll
        for (int e = 0; e < 4; ++e) value[r][c][e] = 0;
      }
    }
  }

  // += A B for two neighbouring column tiles, 2 n and 2 n + 1.
  __device__ void AddProduct(const uint32_t (&a)[kRowTiles][4], const uint32_t (&b)[4], int n) {
    const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      MmaBf16(value[r][2 * n], a[r], left);
      MmaBf16(value[r][2 * n + 1], a[r], right);
    }
  }

  // += A B^T with A rows `row`.. of a tile and B all 8 kColumnTiles rows of another, over kWidth columns.
  template <int kWidth>
  __device__ void AddTransposedProduct(const Bf16* a_tile, int row, const Bf16* b_tile) {
    // Wholly unrolled, the compiler keeps more addresses than there are registers.
#pragma unroll 2
    for (int k = 0; k < kWidth / 16; ++k) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) LoadA<kWidth>(a[r], a_tile, row + 16 * r, k);
#pragma unroll
      for (int n = 0; n < kColumnTiles / 2; ++n) {
        uint32_t b[4];
        LoadBOfTranspose<kWidth>(b, b_tile, 16 * n, k);
        AddProduct(a, b, n);
      }
    }
  }

  // The same with rows that are held.
  template <int kWidth>
  __device__ void AddTransposedProduct(const HeldRows<kRowTiles, kWidth>& a, const Bf16* b_tile) {
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kColumnTiles / 2; ++n) {
        uint32_t b[4];
        LoadBOfTranspose<kWidth>(b, b_tile, 16 * n, k);
        AddProduct(a.operand[k], b, n);
      }
    }
  }

  // += P B with P of 8 kInner columns and B a tile of so many rows.
  template <int kInner>
  __device__ void AddProductOf(const RoundedSums<kRowTiles, kInner>& p, const Bf16* b_tile) {
#pragma unroll
    for (int k = 0; k < kInner / 2; ++k) {
#pragma unroll
      for (int n = 0; n < kColumnTiles / 2; ++n) {
        uint32_t b[4];
        LoadB<8 * kColumnTiles>(b, b_tile, 16 * k, n);
        AddProduct(p.operand[k], b, n);
      }
    }
  }

  __device__ RoundedSums<kRowTiles, kColumnTiles> Rounded() const {
    RoundedSums<kRowTiles, kColumnTiles> rounded;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int c = 0; c < kColumnTiles; ++c) {
        rounded.operand[c / 2][r][c % 2 * 2] = PackBf16(value[r][c][0], value[r][c][1]);
        rounded.operand[c / 2][r][c % 2 * 2 + 1] = PackBf16(value[r][c][2], value[r][c][3]);
      }
    }
    return rounded;
  }

  // Rounds factor * sums into rows `row`.. of a tile.
  __device__ void RoundInto(Bf16* tile, int row, float factor) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int c = 0; c < kColumnTiles; ++c) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          Bf16* to = tile + TileLayout<8 * kColumnTiles>::At(row + 16 * r + 8 * half + g, c) + 2 * t;
          *reinterpret_cast<uint32_t*>(to) =
              PackBf16(value[r][c][2 * half] * factor, value[r][c][2 * half + 1] * factor);
        }
      }
    }
  }
};

}  // namespace unipool::cuda
