// Products of BF16 numbers with sums in F32, on the CPU. Operands may be F32: then they are rounded to BF16
// (to nearest, ties to even) when they are packed, so that one product reads an operand once in either type.
//
// c [m, n] = or += sum over k of a[m, k] b[n, k]. k runs over ranges, each cut into blocks of 32 from its
// beginning on. How a block is summed: bf16_unit.h. Blocks are added in order. So an element of c depends on
// its own row of a, its own row of b and the ranges alone: not on m and n, on the unit, or on how rows are
// cut into batches.
//
// It works in a fixed buffer of the thread (about 0.7 MiB) and allocates nothing.
#pragma once

#include <span>

#include "kernels/cpu/bf16_unit.h"
#include "runtime/range.h"

namespace unipool {

struct Bf16ProductArgs {
  int64_t m = 0, n = 0;
  Bf16Operand a, b;          // [m, k] and [n, k]
  std::span<const Range> k;  // at most kMostBf16Ranges
  bool add = false;          // false: c is overwritten, and may hold anything
  float* c = nullptr;
  int64_t ldc = 0;
};
inline constexpr int kMostBf16Ranges = 16;

void Bf16Product(const Bf16Functions& functions, const Bf16ProductArgs& args);

}  // namespace unipool
