// What multiplies BF16 numbers on this processor: chosen when the program runs, by cpuid. A program that was
// built on another machine has the same code.
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace unipool {

enum class Bf16Unit : uint8_t {
  kPlain,   // F32 multiply-adds of widened numbers, on any processor
  kAvx512,  // the same in vectors of AVX-512, packed by AVX512-BF16
  kAmx,     // tile products (AMX-BF16), which the operating system must grant
};
// The fastest that this processor has. The first call asks the operating system for the tiles.
Bf16Unit FastestBf16Unit();

// A matrix seen as [outer, k], F32 or BF16. Element (i, k) is at i * stride + k if k_contiguous, and else at
// k * stride + i.
struct Bf16Operand {
  const void* data;
  DType dtype;
  int64_t stride;
  bool k_contiguous;

  const char* at(int64_t i, int64_t k) const {
    const int64_t element = k_contiguous ? i * stride + k : k * stride + i;
    return static_cast<const char*>(data) + element * row_item();
  }
  int64_t row_item() const { return dtype == DType::kBF16 ? 2 : 4; }  // bytes of an element
};
inline bool IsBf16Operand(const Tensor& tensor) {
  return tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF32;
}
// A matrix of two dims: [outer, k] if k_contiguous, else [k, outer].
inline Bf16Operand Bf16OperandOf(const Tensor& matrix, bool k_contiguous) {
  return {matrix.data, matrix.dtype, matrix.dim(1), k_contiguous};
}

// Blocks of 32 outer x 32 k numbers are packed as two tiles of 16 outer. kRows: tile [16 outer][32 k].
// kPairs: tile [16 pairs of k][16 outer][2].
inline constexpr int kBf16Block = 32, kBf16Tile = 16;
inline constexpr int64_t kBf16BlockNumbers = kBf16Block * kBf16Block;
enum class Bf16Form : uint8_t { kRows, kPairs };
struct Bf16BlockArgs {
  Bf16Operand from;
  int64_t outer, k;      // where the block begins
  int num_outer, num_k;  // of the block that exist, at most 32; the rest becomes 0
  uint16_t* to;
};

// c [16 row_tiles, 16 column_tiles] = or += sum over blocks of a b^T. Each block of 32 k is summed by itself:
//   even = sum of products of even k, odd = that of odd k, both in order with one rounding a step;
//   c = c + (even + odd).
// Numbers below the least normal one count as 0. All units give the same bits.
struct Bf16TileArgs {
  int64_t num_blocks;
  const void* a;                   // kRows
  int64_t a_row, a_tile, a_block;  // bytes from one row, tile and block to the next
  const uint16_t* b;               // kPairs, blocks one after the other
  float* c;
  int64_t ldc;
  bool add;
  int row_tiles, column_tiles;    // 1 or 2
  const char* next_a = nullptr;   // what a will be, to fetch meanwhile; null: nothing
  const float* next_c = nullptr;  // the same of c
};

// Asks for a block's share of the lines of the next c.
inline void FetchNextResults(const Bf16TileArgs& args, int64_t block) {
  if (!args.next_c) return;
  const int64_t begin = 64 * block / args.num_blocks, end = 64 * (block + 1) / args.num_blocks;
  for (int64_t i = begin; i < end; ++i) __builtin_prefetch(args.next_c + i / 2 * args.ldc + i % 2 * 16);
}

struct Bf16Functions {
  void (*begin)();  // before the first tile of a product
  void (*end)();
  void (*pack)(Bf16Form form, const Bf16BlockArgs& args);
  void (*tile)(const Bf16TileArgs& args);
};
const Bf16Functions& PlainBf16Functions();
// Null where the compiler or the processor has none. Where there is AMX there is AVX-512.
const Bf16Functions* Avx512Bf16Functions();
const Bf16Functions* AmxBf16Functions();
// What both pack with. REQUIRES Avx512Bf16Functions.
void PackBf16WithAvx512(Bf16Form form, const Bf16BlockArgs& args);
const Bf16Functions& Bf16FunctionsOf(Bf16Unit unit);

}  // namespace unipool
