#include "kernels/cpu/bf16_product.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/simd.h"
#include "runtime/poll_point.h"

namespace unipool {
namespace {

constexpr int64_t kMostBlocks = 64;     // of k at once, and of a that are packed
constexpr int64_t kPackedBlocks = 256;  // of b at once: 512 KiB
constexpr int64_t kWantedPanels = 8;    // of b at once, where k is cut for them
constexpr int64_t kRowTileNumbers = kBf16Tile * kBf16Block;

struct Buffers {
  alignas(64) uint16_t a[kMostBlocks * kBf16BlockNumbers];
  alignas(64) uint16_t b[kPackedBlocks * kBf16BlockNumbers];
  alignas(64) float c[kBf16BlockNumbers];
  alignas(64) float transposed[kBf16BlockNumbers];
};
thread_local Buffers buffers;

struct KBlock {
  int64_t begin;
  int size;
};

int64_t BlocksOf(int64_t size) {
  return (size + kBf16Block - 1) / kBf16Block;
}
int SizeOfBlock(int64_t total, int64_t begin) {
  return static_cast<int>(std::min<int64_t>(kBf16Block, total - begin));
}

// to[j][i] = from[i][j], a whole block.
void TransposeBlock(const float* from, float* to, int64_t to_stride) {
  constexpr int kL = kLanes<float>;
  for (int i = 0; i < kBf16Block; i += kL) {
    for (int j = 0; j < kBf16Block; j += kL) {
      Vec<float> square[kL];
#pragma GCC unroll 16
      for (int r = 0; r < kL; ++r) square[r] = Load(from + (i + r) * kBf16Block + j);
      TransposeSquare<float>(square);
#pragma GCC unroll 16
      for (int r = 0; r < kL; ++r) Store(to + (j + r) * to_stride + i, square[r]);
    }
  }
}

void CopyBlock(const float* from, int64_t from_stride, float* to, int64_t to_stride, int rows, int columns) {
  if (columns == kBf16Block) {
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < kBf16Block; j += kLanes<float>)
        Store(to + i * to_stride + j, Load(from + i * from_stride + j));
    }
    return;
  }
  for (int i = 0; i < rows; ++i)
    std::memcpy(to + i * to_stride, from + i * from_stride, columns * sizeof(float));
}

class Product {
 public:
  // With both operands contiguous along k one has to be transposed when packed, or the result when it is
  // stored: `swapped` computes c^T, for few rows of a.
  Product(const Bf16Functions& functions, const Bf16ProductArgs& args, bool swapped)
      : functions_(functions),
        args_(args),
        swapped_(swapped),
        num_rows_(swapped ? args.n : args.m),
        num_columns_(swapped ? args.m : args.n),
        by_rows_(swapped ? args.b : args.a),
        by_pairs_(swapped ? args.a : args.b) {}

  // All blocks of k, some of them at a time.
  void Run() {
    const int64_t panels = std::min(BlocksOf(num_columns_), kWantedPanels);
    const int64_t most = kMostBlocks / panels;  // of b 128 KiB, more only where there are more panels
    num_blocks_ = 0;
    bool add = args_.add;
    for (const Range& range : args_.k) {
      for (int64_t k = range.begin; k < range.end; k += kBf16Block) {
        if (num_blocks_ == most) RunBlocks(add), add = true, num_blocks_ = 0;
        blocks_[num_blocks_++] = {k, SizeOfBlock(range.end, k)};
      }
    }
    if (num_blocks_ > 0) RunBlocks(add);
  }

 private:
  void RunBlocks(bool add) {
    const int64_t most_columns = kPackedBlocks / num_blocks_ * kBf16Block;
    const bool in_place = RowsLieReady();
    for (int64_t first = 0; first < num_columns_; first += most_columns) {
      const int64_t end = std::min(num_columns_, first + most_columns);
      PackColumns(first, end);
      for (int64_t row = 0; row < num_rows_; row += kBf16Block) {
        const bool lies = in_place && row + kBf16Block <= num_rows_;
        const int64_t place = in_place ? 0 : row / kBf16Block % packed_rows();
        if (!lies && place == 0) PackRows(row);
        RunRows(row, lies, place, first, end, add);
        PollPoint();
      }
    }
  }

  // Row panels that are packed at once: neighbours, because a line of memory may hold numbers of several.
  int64_t packed_rows() const { return std::min(kMostBlocks / num_blocks_, kWantedPanels); }
  void PackRows(int64_t first) const {
    const int64_t end = std::min(num_rows_, first + packed_rows() * kBf16Block);
    for (int64_t i = 0; i < num_blocks_; ++i) {
      for (int64_t row = first; row < end; row += kBf16Block) {
        functions_.pack(Bf16Form::kRows, {.from = by_rows_,
                                          .outer = row,
                                          .k = blocks_[i].begin,
                                          .num_outer = SizeOfBlock(num_rows_, row),
                                          .num_k = blocks_[i].size,
                                          .to = buffers.a + ((row - first) / kBf16Block * num_blocks_ + i) *
                                                                kBf16BlockNumbers});
      }
    }
  }

  // BF16 rows in whole neighbouring blocks of k are read where they lie.
  bool RowsLieReady() const {
    if (by_rows_.dtype != DType::kBF16 || !by_rows_.k_contiguous) return false;
    for (int64_t i = 0; i < num_blocks_; ++i) {
      if (blocks_[i].size != kBf16Block || blocks_[i].begin != blocks_[0].begin + i * kBf16Block)
        return false;
    }
    return true;
  }

  void PackColumns(int64_t first, int64_t end) const {
    const int64_t panels = BlocksOf(end - first);
    // Where a row lies along the columns, rows are read whole.
    const auto pack = [&](int64_t panel, int64_t i) {
      functions_.pack(Bf16Form::kPairs, {.from = by_pairs_,
                                         .outer = first + panel * kBf16Block,
                                         .k = blocks_[i].begin,
                                         .num_outer = SizeOfBlock(end, first + panel * kBf16Block),
                                         .num_k = blocks_[i].size,
                                         .to = buffers.b + (panel * num_blocks_ + i) * kBf16BlockNumbers});
    };
    if (by_pairs_.k_contiguous) {
      for (int64_t panel = 0; panel < panels; ++panel)
        for (int64_t i = 0; i < num_blocks_; ++i) pack(panel, i);
    } else {
      for (int64_t i = 0; i < num_blocks_; ++i)
        for (int64_t panel = 0; panel < panels; ++panel) pack(panel, i);
    }
  }

  void RunRows(int64_t row, bool in_place, int64_t place, int64_t first, int64_t end, bool add) const {
    const int size = SizeOfBlock(num_rows_, row);
    Bf16TileArgs tile{};
    tile.num_blocks = num_blocks_;
    tile.row_tiles = size > kBf16Tile ? 2 : 1;
    if (in_place) {
      tile.a = by_rows_.at(row, blocks_[0].begin);
      tile.a_row = 2 * by_rows_.stride;
      tile.a_tile = kBf16Tile * tile.a_row;
      tile.a_block = 2 * kBf16Block;
      tile.next_a = static_cast<const char*>(tile.a) + kBf16Block * tile.a_row;
    } else {
      tile.a = buffers.a + place * num_blocks_ * kBf16BlockNumbers;
      tile.a_row = 2 * kBf16Block;
      tile.a_tile = 2 * kRowTileNumbers;
      tile.a_block = 2 * kBf16BlockNumbers;
    }
    for (int64_t column = first; column < end; column += kBf16Block) {
      const int columns = SizeOfBlock(end, column);
      tile.b = buffers.b + (column - first) / kBf16Block * num_blocks_ * kBf16BlockNumbers;
      tile.column_tiles = columns > kBf16Tile ? 2 : 1;
      tile.add = add;
      if (column > first) tile.next_a = nullptr;
      if (swapped_) {
        RunTransposed(tile, row, size, column, columns);
      } else {
        RunDirect(tile, row, size, column, columns);
      }
    }
  }

  void RunDirect(Bf16TileArgs& tile, int64_t row, int rows, int64_t column, int columns) const {
    float* const c = args_.c + row * args_.ldc + column;
    if (rows % kBf16Tile == 0 && columns % kBf16Tile == 0) {
      tile.c = c;
      tile.ldc = args_.ldc;
      tile.next_c = column + 2 * kBf16Block <= num_columns_ ? c + kBf16Block
                    : row + 2 * kBf16Block <= num_rows_     ? c - column + kBf16Block * args_.ldc
                                                            : nullptr;
      return functions_.tile(tile);
    }
    tile.c = buffers.c;
    tile.ldc = kBf16Block;
    tile.next_c = nullptr;
    if (tile.add) CopyBlock(c, args_.ldc, tile.c, tile.ldc, rows, columns);
    functions_.tile(tile);
    CopyBlock(tile.c, tile.ldc, c, args_.ldc, rows, columns);
  }

  // The tile is c^T; c has `columns` rows here.
  void RunTransposed(Bf16TileArgs& tile, int64_t row, int rows, int64_t column, int columns) const {
    float* const c = args_.c + column * args_.ldc + row;
    tile.c = buffers.c;
    tile.ldc = kBf16Block;
    if (tile.add) {
      CopyBlock(c, args_.ldc, buffers.transposed, kBf16Block, columns, rows);
      TransposeBlock(buffers.transposed, buffers.c, kBf16Block);
    }
    functions_.tile(tile);
    if (rows == kBf16Block && columns == kBf16Block) return TransposeBlock(buffers.c, c, args_.ldc);
    TransposeBlock(buffers.c, buffers.transposed, kBf16Block);
    CopyBlock(buffers.transposed, kBf16Block, c, args_.ldc, columns, rows);
  }

  const Bf16Functions& functions_;
  const Bf16ProductArgs& args_;
  const bool swapped_;
  const int64_t num_rows_, num_columns_;
  const Bf16Operand by_rows_, by_pairs_;  // first and second operand of the tiles
  KBlock blocks_[kMostBlocks];
  int64_t num_blocks_ = 0;
};

void Clear(const Bf16ProductArgs& args) {
  for (int64_t i = 0; i < args.m; ++i) std::fill_n(args.c + i * args.ldc, args.n, 0.f);
}

}  // namespace

void Bf16Product(const Bf16Functions& functions, const Bf16ProductArgs& args) {
  if (args.m == 0 || args.n == 0) return;
  int64_t k = 0;
  for (const Range& range : args.k) k += range.size();
  if (k == 0) return args.add ? void() : Clear(args);
  const bool swapped = args.a.k_contiguous && args.b.k_contiguous && args.m < std::min(k, args.n);
  functions.begin();
  Product(functions, args, swapped).Run();
  functions.end();
}

}  // namespace unipool
