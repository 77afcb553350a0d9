// dw[e] (+)= dy[rows of e]^T x[rows of e] on tensor cores. A block owns one tile [O 128, I 256] of one expert
// and walks over the expert's rows, range by range (one in each slot), 32 rows at a time, four such slices
// being copied to shared memory ahead of use, also those of the next range; each of its 8 warps keeps
// [64, 64] sums in registers until the last range. A slice ends with its range and is filled up with zeros.
// The order of a sum depends on the rows of its expert alone.
//
// Both factors lie in memory with the summed index (rows) outermost, which tensor cores do not take: the
// transposing loads from shared memory turn them. Rows in shared memory have their 16-byte pieces permuted by
// the row's number, so that the 8 rows of one such load lie in different banks.
#include <algorithm>
#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/mma.h"

namespace unipool::cuda {
namespace {

constexpr int kTileO = 128, kTileI = 256, kSlice = 32, kStages = 4;
constexpr int kThreads = 256, kWarpsI = 4, kWarpTile = 64;
constexpr int kPiece = 8;  // elements in 16 bytes
constexpr int kStageElements = kSlice * (kTileO + kTileI);
constexpr int64_t kSharedBytes = kStages * kStageElements * sizeof(Bf16);

// What a block reads of its launch: groups in order, then the group that ends the last one, then all ranges.
struct Group {
  int expert_and_add;  // 2 * expert + (is added to)
  int first_range;     // its entry; up to that of the next group
};
struct Range {
  int begin, rows;  // at least 1 row
};
union Entry {
  Group group;
  Range range;
};
constexpr int kMostEntries = 504;  // 4032 of the 4096 bytes of arguments that every launch may have
struct Work {
  Entry entry[kMostEntries];
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

// (+)= 16 rows of a warp's sums, [16, 64]. A lane has rows `row` and `row` + 8, and 8 pairs of columns from
// `column` on. All its 16 loads are under way before the first store: the compiler moves none across a store.
__device__ inline void StoreRows(float* matrix, int64_t outer, int64_t inner, int64_t row, int64_t column,
                                 const float (&sums)[8][4], bool add) {
  Pack<float, 2> old[2][8] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (add && row + half * 8 < outer && column + j * 8 < inner)
        old[half][j] = LoadPack<2>(matrix + (row + half * 8) * inner + column + j * 8);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      Pack<float, 2> pair = old[half][j];
      pair.value[0] += sums[j][2 * half];
      pair.value[1] += sums[j][2 * half + 1];
      if (row + half * 8 < outer && column + j * 8 < inner)
        StorePack(matrix + (row + half * 8) * inner + column + j * 8, pair);
    }
  }
}

// The rows of a group, slice by slice.
class Slices {
 public:
  __device__ Slices(const Work& work, int group)
      : work_(work),
        range_(work.entry[group].group.first_range),
        end_(work.entry[group + 1].group.first_range) {
    Load();
  }
  __device__ int Count() const {
    int count = 0;
    for (int i = range_; i < end_; ++i) count += (work_.entry[i].range.rows + kSlice - 1) / kSlice;
    return count;
  }
  // Of the slice at hand: its first row and how many rows are left of its range; none behind the last slice.
  __device__ int row() const { return row_; }
  __device__ int rows_left() const { return rows_left_; }
  __device__ void Next() {
    row_ += kSlice, rows_left_ -= kSlice;
    if (rows_left_ <= 0) ++range_, Load();
  }

 private:
  __device__ void Load() {
    rows_left_ = 0;
    if (range_ < end_) row_ = work_.entry[range_].range.begin, rows_left_ = work_.entry[range_].range.rows;
  }
  const Work& work_;
  int range_, end_, row_ = 0, rows_left_ = 0;
};

UNIPOOL_KERNEL((kThreads), WeightGrad, const __grid_constant__ Work work, const Bf16* dy, const Bf16* x,
               int64_t outer, int64_t inner, float* dw) {
  const int64_t tile_o = static_cast<int64_t>(blockIdx.y) * kTileO,
                tile_i = static_cast<int64_t>(blockIdx.x) * kTileI;
  Bf16* shared = DynamicShared<Bf16>();
  Slices next(work, static_cast<int>(blockIdx.z));
  const int num_slices = next.Count();
  const auto copy = [&](int slice) {
    if (next.rows_left() > 0) {
      Bf16* stage = shared + slice % kStages * kStageElements;
      CopySlice<kTileO>(dy + next.row() * outer, next.rows_left(), outer, tile_o, stage);
      CopySlice<kTileI>(x + next.row() * inner, next.rows_left(), inner, tile_i, stage + kSlice * kTileO);
      next.Next();
    }
    CommitCopies();  // an empty group of copies keeps the count
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

  const int expert_and_add = work.entry[blockIdx.z].group.expert_and_add;
  float* matrix = dw + expert_and_add / 2 * outer * inner;
  const bool add = expert_and_add % 2 != 0;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t column = tile_i + warp_i * kWarpTile + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t row = tile_o + warp_o * kWarpTile + i * 16 + lane / 4;
    StoreRows(matrix, outer, inner, row, column, sums[i], add);
  }
}

// An expert with rows.
struct Expert {
  int64_t index;
  int64_t rows;  // in all slots
  int ranges;
};

Expert ExpertOf(std::span<const GroupOffsets> slots, int64_t index) {
  Expert expert{index, 0, 0};
  for (const GroupOffsets offsets : slots) {
    const int64_t rows = offsets[index + 1] - offsets[index];
    expert.rows += rows;
    expert.ranges += rows > 0;
  }
  return expert;
}

// Marks the experts as having a gradient.
Work WorkOf(std::span<const Expert> experts, std::span<const GroupOffsets> slots,
            std::span<uint8_t> has_grad) {
  Work work;
  const int count = static_cast<int>(experts.size());
  int range = count + 1;
  for (int g = 0; g < count; ++g) {
    const int64_t e = experts[g].index;
    work.entry[g].group = {static_cast<int>(2 * e + (has_grad[e] ? 1 : 0)), range};
    has_grad[e] = 1;
    for (const GroupOffsets offsets : slots) {
      const int64_t rows = offsets[e + 1] - offsets[e];
      if (rows > 0) work.entry[range++].range = {static_cast<int>(offsets[e]), static_cast<int>(rows)};
    }
  }
  work.entry[count].group = {0, range};
  return work;
}

}  // namespace

void GroupedWeightGradBf16(Stream& stream, std::span<const GroupOffsets> slots, const Tensor& dy,
                           const Tensor& x, const Tensor& dw, std::span<uint8_t> has_grad) {
  const int64_t outer = dw.dim(1), inner = dw.dim(2), num_experts = dw.dim(0);
  CHECK_LE(dy.dim(0), std::numeric_limits<int>::max()) << "rows";
  Expert experts[kMostEntries / 2];
  unsigned count = 0;
  int num_entries = 1;  // the group behind the last
  const auto launch = [&] {
    // Those with most rows first: the last blocks to run are short.
    std::sort(experts, experts + count, [](const Expert& a, const Expert& b) {
      return a.rows != b.rows ? a.rows > b.rows : a.index < b.index;
    });
    const Work work = WorkOf({experts, count}, slots, has_grad);
    const LaunchShape shape = {.grid = dim3(static_cast<unsigned>(CeilDiv(inner, kTileI)),
                                            static_cast<unsigned>(CeilDiv(outer, kTileO)), count),
                               .block = dim3(kThreads),
                               .shared_bytes = kSharedBytes};
    Launch("GroupedWeightGradBf16", WeightGrad, shape, stream, work, dy.as<Bf16>(), x.as<Bf16>(), outer,
           inner, dw.as<float>());
    count = 0, num_entries = 1;
  };
  for (int64_t e = 0; e < num_experts; ++e) {
    const Expert expert = ExpertOf(slots, e);
    if (expert.rows == 0) continue;
    if (num_entries + 1 + expert.ranges > kMostEntries) launch();
    experts[count++] = expert;
    num_entries += 1 + expert.ranges;
  }
  launch();
}

}  // namespace unipool::cuda
