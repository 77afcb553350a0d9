// The product of a router's tokens and weights as one block computes it: what lies in shared memory, and the
// sums that a thread has of a tile. router_forward_cuda.cu has the rest of the kernel.
#pragma once

#include "kernels/cuda/mma.h"

namespace unipool::cuda::router {

inline constexpr int kSliceBytes = 128;             // of a row in one step of the product
inline constexpr int kRowBytes = kSliceBytes + 16;  // in shared memory: rows begin in different banks
inline constexpr int kStages = 2;                   // slices under way

template <class T>
inline constexpr int kSlice = kSliceBytes / static_cast<int>(sizeof(T));
template <class T>
inline constexpr int kRow = kRowBytes / static_cast<int>(sizeof(T));

// What a block takes: kTokens tokens, and kExperts experts at a time. Larger blocks read the weights less
// often, and need more shared memory.
template <int kTokensOfBlock, int kExpertsOfTile>
struct BlockShape {
  static constexpr int kTokens = kTokensOfBlock, kExperts = kExpertsOfTile;
  static constexpr int kWarps = kTokens <= 64 ? 8 : kTokens / 8, kThreads = kWarps * kWarp;
  static constexpr int kTokensPerWarp = kTokens / kWarps;  // whose scores and choices a warp makes
  // Of a stage; the weight and its low part, where there is one, are `parts` parts.
  static constexpr int kTokenBytes = kTokens * kRowBytes, kPartBytes = kExperts * kRowBytes;
  static constexpr int64_t SharedBytes(int parts, int64_t num_experts) {
    return kStages * (kTokenBytes + parts * kPartBytes) +
           ((kTokens + 1) * num_experts + 1) * int64_t{sizeof(float)};
  }
};

// Rows [first, first + kRows) of a matrix [rows, width], columns [begin, begin + kSlice), into shared memory;
// zeros behind its edges.
template <class T, bool kPacks, int kRows, int kThreads>
__device__ inline void StageRows(const T* matrix, int64_t first, int64_t rows, int64_t width, int64_t begin,
                                 T* staged) {
  if constexpr (kPacks) {
    constexpr int kPacksOfRow = kSliceBytes / 16;
    for (int i = threadIdx.x; i < kRows * kPacksOfRow; i += kThreads) {
      const int row = i / kPacksOfRow, column = i % kPacksOfRow * kPackOf16<T>;
      const bool valid = first + row < rows && begin + column < width;
      CopyAsync16(staged + row * kRow<T> + column,
                  valid ? matrix + (first + row) * width + begin + column : matrix, valid);
    }
  } else {
    for (int i = threadIdx.x; i < kRows * kSlice<T>; i += kThreads) {
      const int row = i / kSlice<T>, column = i % kSlice<T>;
      const bool valid = first + row < rows && begin + column < width;
      staged[row * kRow<T> + column] =
          valid ? matrix[(first + row) * width + begin + column] : FromFloat<T>(0);
    }
  }
}

// One thread's share of a tile [kTokens, kExperts] of the product. The weight and its low part have sums of
// their own, each in the order of the columns: what one bf16 carries and what it cut off meet once, at the
// end, as two matrix products would.
template <class T, class Shape>
struct TileSum;

// Exact products of bf16, summed in F32 by the tensor cores.
template <class Shape>
struct TileSum<Bf16, Shape> {
  static constexpr int kWarpTokens = Shape::kTokens < 64 ? 16 : 32, kTokenTiles = kWarpTokens / 16;
  static constexpr int kWarpExperts = Shape::kTokens * Shape::kExperts / (Shape::kWarps * kWarpTokens);
  static constexpr int kGroups = kWarpExperts / 8;
  float sums[2][kTokenTiles][kGroups][4] = {};

  static __device__ int FirstToken() {
    const int warp = threadIdx.x / kWarp;
    return warp % (Shape::kTokens / kWarpTokens) * kWarpTokens;
  }
  static __device__ int FirstExpert() {
    const int warp = threadIdx.x / kWarp;
    return warp / (Shape::kTokens / kWarpTokens) * kWarpExperts;
  }
  // num_experts: of the tile. The parts of `experts` lie one behind the other.
  __device__ void Add(const Bf16* tokens, const Bf16* experts, int parts, int num_experts) {
    if (FirstExpert() >= num_experts) return;  // of the whole warp alike
    const int lane = threadIdx.x % kWarp;
    const Bf16* token_row = tokens + (FirstToken() + lane % 16) * kRow<Bf16> + lane / 16 * 8;
    const Bf16* expert_row =
        experts + (FirstExpert() + lane % 8 + lane / 16 * 8) * kRow<Bf16> + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kSlice<Bf16>; k += 16) {
      uint32_t a[kTokenTiles][4];
#pragma unroll
      for (int t = 0; t < kTokenTiles; ++t) LoadMatrices(a[t], token_row + t * 16 * kRow<Bf16> + k);
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        if (part == parts) break;
#pragma unroll
        for (int pair = 0; pair < kGroups / 2; ++pair) {
          uint32_t b[4];
          LoadMatrices(b, expert_row + (part * Shape::kExperts + pair * 16) * kRow<Bf16> + k);
#pragma unroll
          for (int t = 0; t < kTokenTiles; ++t) {
            MmaBf16(sums[part][t][2 * pair], a[t], {b[0], b[1]});
            MmaBf16(sums[part][t][2 * pair + 1], a[t], {b[2], b[3]});
          }
        }
      }
    }
  }
  // store(token, expert, sum) for each of its sums, counted from the tile's first.
  template <class Store>
  __device__ void ForEach(Store store) const {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int t = 0; t < kTokenTiles; ++t) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          store(FirstToken() + t * 16 + lane / 4 + r / 2 * 8,
                FirstExpert() + group * 8 + lane % 4 * 2 + r % 2,
                sums[0][t][group][r] + sums[1][t][group][r]);
        }
      }
    }
  }
};

// A thread has some tokens of its warp, and experts that are a warp apart.
template <class Shape>
struct TileSum<float, Shape> {
  static constexpr int kGroups = Shape::kExperts / kWarp;
  float sums[2][Shape::kTokensPerWarp][kGroups] = {};

  __device__ void Add(const float* tokens, const float* experts, int parts, int /*num_experts*/) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    for (int k = 0; k < kSlice<float>; k += 4) {
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        if (part == parts) break;
        Pack<float, 4> w[kGroups];
#pragma unroll
        for (int e = 0; e < kGroups; ++e) {
          w[e] = LoadPack<4>(experts + (part * Shape::kExperts + lane + e * kWarp) * kRow<float> + k);
        }
#pragma unroll
        for (int t = 0; t < Shape::kTokensPerWarp; ++t) {
          const Pack<float, 4> x = LoadPack<4>(tokens + (warp * Shape::kTokensPerWarp + t) * kRow<float> + k);
#pragma unroll
          for (int e = 0; e < kGroups; ++e) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[part][t][e] += x.value[i] * w[e].value[i];
          }
        }
      }
    }
  }
  template <class Store>
  __device__ void ForEach(Store store) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
    for (int t = 0; t < Shape::kTokensPerWarp; ++t) {
#pragma unroll
      for (int e = 0; e < kGroups; ++e) {
        store(warp * Shape::kTokensPerWarp + t, lane + e * kWarp, sums[0][t][e] + sums[1][t][e]);
      }
    }
  }
};

}  // namespace unipool::cuda::router
