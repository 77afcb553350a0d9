// dw[e] (+)= dy[rows of e]^T x[rows of e] on tensor cores. A block owns one tile [O 128, I 256] of one expert
// and walks over the expert's rows, 32 at a time, four such slices being copied to shared memory ahead of
// use; each of its 8 warps keeps [64, 64] sums in registers. The order of a sum depends on the rows of its
// expert alone.
//
// Both factors lie in memory with the summed index (rows) outermost, which tensor cores do not take: the
// transposing loads from shared memory turn them. Rows in shared memory have their 16-byte pieces permuted by
// the row's number, so that the 8 rows of one such load lie in different banks.
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.h"
#include "kernels/grouped_weight_grad_cuda.h"

namespace unipool::cuda {
namespace {

constexpr int kTileO = 128, kTileI = 256, kSlice = 32, kStages = 4;
constexpr int kThreads = 256, kWarpsI = 4, kWarpTile = 64;
constexpr int kPiece = 8;  // elements in 16 bytes
constexpr int kStageElements = kSlice * (kTileO + kTileI);
constexpr int64_t kSharedBytes = kStages * kStageElements * sizeof(Bf16);

struct Group {
  int64_t begin;  // first row
  int rows;
  int expert_and_add;  // 2 * expert + (is added to)
};
constexpr int kMostGroups = 240;  // 3840 of the 4096 bytes of arguments that every launch may have
struct Groups {
  Group group[kMostGroups];
};

// Where piece `piece` of row `row` lies in a slice of rows of kWidth elements.
template <int kWidth>
__device__ inline int PlaceOf(int row, int piece) {
  return row * kWidth + (piece ^ (row % 8)) * kPiece;
}

// Starts the copy of columns [column, column + kWidth) of kSlice rows; what lies outside becomes 0.
template <int kWidth>
__device__ inline void CopySlice(const Bf16* rows, int num_rows, int64_t width, int64_t column,
                                 Bf16* shared) {
  constexpr int kPieces = kWidth / kPiece;
#pragma unroll
  for (int i = 0; i < kSlice * kPieces / kThreads; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kThreads, row = at / kPieces, piece = at % kPieces;
    const int64_t from = column + piece * kPiece;
    const bool valid = row < num_rows && from < width;
    CopyAsync16(shared + PlaceOf<kWidth>(row, piece), valid ? rows + row * width + from : rows, valid);
  }
}

// sums += (slice of dy)^T (slice of x), for this warp's part of the tile.
__device__ inline void MultiplySlice(const Bf16* shared, int warp_o, int warp_i, float (&sums)[4][8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const Bf16 *dy = shared, *x = shared + kSlice * kTileO;
#pragma unroll
  for (int k = 0; k < kSlice; k += 16) {
    uint32_t a[4][4], b[4][4];
    const int row_a = k + lane / 16 * 8 + lane % 8, row_b = k + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int piece_a = (warp_o * kWarpTile + i * 16) / kPiece + lane / 8 % 2;
      const int piece_b = (warp_i * kWarpTile + i * 16) / kPiece + lane / 16;
      LoadMatricesTransposed(a[i], dy + PlaceOf<kTileO>(row_a, piece_a));
      LoadMatricesTransposed(b[i], x + PlaceOf<kTileI>(row_b, piece_b));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const uint32_t columns[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        MmaBf16(sums[i][j], a[i], columns);
      }
    }
  }
}

__device__ inline void StorePair(float* to, float first, float second, bool add) {
  Pack<float, 2> pair = add ? LoadPack<2>(to) : Pack<float, 2>{};
  pair.value[0] += first;
  pair.value[1] += second;
  StorePack(to, pair);
}

__global__ void __launch_bounds__(kThreads)
    WeightGrad(const Groups groups, const Bf16* dy, const Bf16* x, int64_t outer, int64_t inner, float* dw) {
  const Group group = groups.group[blockIdx.z];
  const int64_t tile_o = static_cast<int64_t>(blockIdx.y) * kTileO,
                tile_i = static_cast<int64_t>(blockIdx.x) * kTileI;
  Bf16* shared = DynamicShared<Bf16>();
  const Bf16 *dy_rows = dy + group.begin * outer, *x_rows = x + group.begin * inner;
  const int num_slices = (group.rows + kSlice - 1) / kSlice;
  const auto copy = [&](int slice) {
    if (slice < num_slices) {
      Bf16* stage = shared + slice % kStages * kStageElements;
      const int row = slice * kSlice;
      CopySlice<kTileO>(dy_rows + row * outer, group.rows - row, outer, tile_o, stage);
      CopySlice<kTileI>(x_rows + row * inner, group.rows - row, inner, tile_i, stage + kSlice * kTileO);
    }
    CommitCopies();  // an empty group keeps the count
  };
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warp_o = warp / kWarpsI, warp_i = warp % kWarpsI;
  float sums[4][8][4] = {};
  for (int slice = 0; slice < kStages - 1; ++slice) copy(slice);
  for (int slice = 0; slice < num_slices; ++slice) {
    WaitCopies<kStages - 2>();
    __syncthreads();  // this slice has come for all, and nobody reads the one before it any more
    copy(slice + kStages - 1);
    MultiplySlice(shared + slice % kStages * kStageElements, warp_o, warp_i, sums);
  }

  float* matrix = dw + group.expert_and_add / 2 * outer * inner;
  const bool add = group.expert_and_add % 2 != 0;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t row = tile_o + warp_o * kWarpTile + i * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int64_t column = tile_i + warp_i * kWarpTile + j * 8 + lane % 4 * 2;
      if (column >= inner) continue;
      if (row < outer) StorePair(matrix + row * inner + column, sums[i][j][0], sums[i][j][1], add);
      if (row + 8 < outer) StorePair(matrix + (row + 8) * inner + column, sums[i][j][2], sums[i][j][3], add);
    }
  }
}

}  // namespace

void GroupedWeightGradBf16(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& x,
                           const Tensor& dw, std::span<uint8_t> has_grad) {
  const int64_t outer = dw.dim(1), inner = dw.dim(2), num_experts = dw.dim(0);
  Groups groups;
  unsigned count = 0;
  const auto launch = [&] {
    // Those with most rows first: the last blocks to run are short.
    std::sort(groups.group, groups.group + count, [](const Group& a, const Group& b) {
      return a.rows != b.rows ? a.rows > b.rows : a.expert_and_add < b.expert_and_add;
    });
    const LaunchShape shape = {.grid = dim3(static_cast<unsigned>(CeilDiv(inner, kTileI)),
                                            static_cast<unsigned>(CeilDiv(outer, kTileO)), count),
                               .block = dim3(kThreads),
                               .shared_bytes = kSharedBytes};
    Launch("GroupedWeightGradBf16", WeightGrad, shape, stream, groups, dy.as<Bf16>(), x.as<Bf16>(), outer,
           inner, dw.as<float>());
    count = 0;
  };
  for (int64_t e = 0; e < num_experts; ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows == 0) continue;
    groups.group[count++] = {offsets[e], static_cast<int>(rows),
                             static_cast<int>(2 * e + (has_grad[e] ? 1 : 0))};
    has_grad[e] = 1;
    if (count == kMostGroups) launch();
  }
  launch();
}

}  // namespace unipool::cuda
