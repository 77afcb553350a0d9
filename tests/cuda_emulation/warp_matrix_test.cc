// The emulated tensor core instructions against plain products, with the register layouts written down once
// more, element by element, from "Matrix Fragments for mma.m16n8k16" and "ldmatrix" of NVIDIA's PTX ISA: a
// layout that is wrong in the emulation, or in the comment that kernels are written from, shows.
#include <gtest/gtest.h>

#include <set>

#include "kernels/cuda/attention_tile.h"

namespace unipool {
namespace {

using cuda::Launch;
using emulation::ThreadOrder;
constexpr ThreadOrder kOrders[] = {ThreadOrder::kAscending, ThreadOrder::kDescending, ThreadOrder::kRandom};

// Small integers that tell row and column, exact in bf16.
float ElementOfA(int row, int column) {
  return static_cast<float>(row * 16 + column);
}
float ElementOfB(int row, int column) {
  return static_cast<float>(row * 8 + column + 1);
}

uint32_t Pair(float low, float high) {
  return __float2bfloat16(low).bits | static_cast<uint32_t>(__float2bfloat16(high).bits) << 16;
}

void MultiplyKernel(float* sums) {
  const int lane = static_cast<int>(threadIdx.x), group = lane >> 2, member = lane % 4;
  float a[8], b[4], c[4];
  for (int i = 0; i < 8; ++i) {
    const bool upper = i < 2 || (4 <= i && i < 6);
    a[i] = ElementOfA(upper ? group : group + 8, member * 2 + (i & 1) + (i < 4 ? 0 : 8));
  }
  for (int i = 0; i < 4; ++i) b[i] = ElementOfB(member * 2 + (i & 1) + (i < 2 ? 0 : 8), group);
  for (int i = 0; i < 4; ++i) c[i] = sums[(i < 2 ? group : group + 8) * 8 + member * 2 + (i & 1)];
  const uint32_t a_registers[4] = {Pair(a[0], a[1]), Pair(a[2], a[3]), Pair(a[4], a[5]), Pair(a[6], a[7])};
  const uint32_t b_registers[2] = {Pair(b[0], b[1]), Pair(b[2], b[3])};
  cuda::MmaBf16(c, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) sums[(i < 2 ? group : group + 8) * 8 + member * 2 + (i & 1)] = c[i];
}

// Four matrices whose element (row, column) is 64 matrix + 8 row + column, loaded as they are and transposed.
void LoadKernel(float* loaded) {
  UNIPOOL_SHARED(Bf16, matrices, [4][8][8]);
  const int lane = static_cast<int>(threadIdx.x), group = lane >> 2, member = lane % 4;
  for (int i = 0; i < 8; ++i)
    matrices[lane / 8][lane % 8][i] = __float2bfloat16(static_cast<float>(lane * 8 + i));
  __syncthreads();
  uint32_t plain[4], transposed[4];
  cuda::LoadMatrices(plain, matrices[lane / 8][lane % 8]);
  cuda::LoadMatricesTransposed(transposed, matrices[lane / 8][lane % 8]);
  for (int m = 0; m < 4; ++m) {
    for (int half = 0; half < 2; ++half) {
      const auto value = [&](uint32_t pair) {
        return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
      };
      loaded[m * 64 + group * 8 + member * 2 + half] = value(plain[m]);
      loaded[256 + m * 64 + (member * 2 + half) * 8 + group] = value(transposed[m]);
    }
  }
}

// What a kernel of one warp makes of `size` floats that are `initial` in the beginning.
template <class Check>
void RunWarp(void (*kernel)(float*), int size, float initial, Check check) {
  for (const ThreadOrder order : kOrders) {
    emulation::GuardedMemory memory;
    emulation::Machine machine(order, 3, memory);
    MemoryMeter meter;
    Stream stream(meter, CudaQueue{.stream = machine.stream(), .blas = nullptr, .memory = &memory});
    float* values = static_cast<float*>(memory.Allocate(size * sizeof(float), "values"));
    std::fill_n(values, size, initial);
    Launch("warp", kernel, {.grid = 1, .block = 32}, stream, values);
    check(values);
  }
}

TEST(WarpMatrix, Product) {
  RunWarp(&MultiplyKernel, 16 * 8, 0.5f, [](const float* sums) {
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        double sum = 0.5;
        for (int k = 0; k < 16; ++k) sum += double{ElementOfA(row, k)} * ElementOfB(k, column);
        EXPECT_EQ(sums[row * 8 + column], sum) << row << ", " << column;
      }
    }
  });
}

TEST(WarpMatrix, Loads) {
  RunWarp(&LoadKernel, 512, -1, [](const float* loaded) {
    for (int i = 0; i < 512; ++i) EXPECT_EQ(loaded[i], i % 256) << i;
  });
}

// Every chunk has a place of its own, and the eight rows that one phase of ldmatrix reads lie in the eight
// groups of banks.
template <int kWidth>
void CheckLayout() {
  using Layout = cuda::TileLayout<kWidth>;
  std::set<int> places;
  for (int row = 0; row < 64; ++row) {
    for (int chunk = 0; chunk < Layout::kChunks; ++chunk) {
      EXPECT_EQ(Layout::At(row, chunk) % cuda::kChunk, 0);
      EXPECT_TRUE(places.insert(Layout::At(row, chunk)).second) << row << ", " << chunk;
      std::set<int> banks;
      for (int i = 0; i < 8; ++i) banks.insert(Layout::At(row / 8 * 8 + i, chunk) / cuda::kChunk % 8);
      EXPECT_EQ(banks.size(), 8u) << "width " << kWidth << ", row " << row << ", chunk " << chunk;
    }
  }
  EXPECT_EQ(*places.rbegin(), 64 * kWidth - cuda::kChunk);
}

TEST(WarpMatrix, TilesHaveNoBankConflicts) {
  CheckLayout<16>();
  CheckLayout<32>();
  CheckLayout<48>();
  CheckLayout<64>();
  CheckLayout<80>();
  CheckLayout<96>();
  CheckLayout<112>();
  CheckLayout<128>();
}

}  // namespace
}  // namespace unipool
