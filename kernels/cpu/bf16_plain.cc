// BF16 products on any processor.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/bf16_bits.h"
#include "kernels/cpu/bf16_unit.h"
#include "kernels/cpu/simd.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace unipool {
namespace {

constexpr int kRowsAtOnce = 4;

uint16_t BitsAt(const Bf16Operand& from, int64_t i, int64_t k) {
  const char* at = from.at(i, k);
  if (from.dtype == DType::kBF16) {
    uint16_t bits;
    std::memcpy(&bits, at, sizeof(bits));
    return bits;
  }
  float value;
  std::memcpy(&value, at, sizeof(value));
  return RoundToBf16(value);
}

void Pack(Bf16Form form, const Bf16BlockArgs& args) {
  std::fill_n(args.to, kBf16BlockNumbers, uint16_t{0});
  const auto place = [&](int i, int k) -> uint16_t& {
    uint16_t* tile = args.to + i / kBf16Tile * kBf16Tile * kBf16Block;
    i %= kBf16Tile;
    return form == Bf16Form::kRows ? tile[i * kBf16Block + k] : tile[k / 2 * kBf16Block + 2 * i + k % 2];
  };
  const auto copy = [&](int i, int k) { place(i, k) = BitsAt(args.from, args.outer + i, args.k + k); };
  if (args.from.k_contiguous) {
    for (int i = 0; i < args.num_outer; ++i)
      for (int k = 0; k < args.num_k; ++k) copy(i, k);
  } else {
    for (int k = 0; k < args.num_k; ++k)
      for (int i = 0; i < args.num_outer; ++i) copy(i, k);
  }
}

typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
Bits BroadcastBits(uint32_t value) {
  return value - Bits{};
}
Vec<float> AsFloats(const Bits& bits) {
  return reinterpret_cast<const Vec<float>&>(bits);
}
// The numbers of even and odd k in pairs of BF16.
Vec<float> Even(const Bits& pairs) {
  return AsFloats(pairs << 16);
}
Vec<float> Odd(const Bits& pairs) {
  return AsFloats(pairs & 0xffff0000u);
}

// kRowsAtOnce rows and one vector of columns over one block; b: its first pair of k at these columns.
void Strip(const char* a, int64_t a_row, const uint16_t* b, bool add, float* c, int64_t ldc) {
  Vec<float> even[kRowsAtOnce] = {}, odd[kRowsAtOnce] = {};
  for (int pair = 0; pair < kBf16Block / 2; ++pair) {
    Bits columns;
    std::memcpy(&columns, b + pair * kBf16Block, sizeof(columns));
#pragma GCC unroll 4
    for (int i = 0; i < kRowsAtOnce; ++i) {
      uint32_t row;
      std::memcpy(&row, a + i * a_row + pair * 4, sizeof(row));
      const Bits rows = BroadcastBits(row);
      even[i] = Even(rows) * Even(columns) + even[i];
      odd[i] = Odd(rows) * Odd(columns) + odd[i];
    }
  }
  for (int i = 0; i < kRowsAtOnce; ++i) {
    const Vec<float> sum = even[i] + odd[i], before = add ? Load(c + i * ldc) : Vec<float>{};
    Store(c + i * ldc, before + sum);
  }
}

void TileOfNormalNumbers(const Bf16TileArgs& args) {
  for (int64_t block = 0; block < args.num_blocks; ++block) {
    const uint16_t* b = args.b + block * kBf16BlockNumbers;
    for (int i = 0; i < args.row_tiles * kBf16Tile; i += kRowsAtOnce) {
      const char* a = static_cast<const char*>(args.a) + block * args.a_block + i / kBf16Tile * args.a_tile +
                      i % kBf16Tile * args.a_row;
      for (int j = 0; j < args.column_tiles * kBf16Tile; j += kLanes<float>) {
        Strip(a, args.a_row, b + j / kBf16Tile * kBf16Tile * kBf16Block + 2 * (j % kBf16Tile),
              args.add || block > 0, args.c + i * args.ldc + j, args.ldc);
      }
    }
  }
}

void Tile(const Bf16TileArgs& args) {
#if defined(__SSE__)
  constexpr unsigned kFlushToZero = 0x8040;  // results and operands below the least normal number
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushToZero);
  void (*volatile run)(const Bf16TileArgs&) = &TileOfNormalNumbers;  // no arithmetic moves past the switch
  run(args);
  _mm_setcsr(before);
#else
  TileOfNormalNumbers(args);
#endif
}

void Nothing() {}

}  // namespace

const Bf16Functions& PlainBf16Functions() {
  static constexpr Bf16Functions kFunctions{.begin = &Nothing, .end = &Nothing, .pack = &Pack, .tile = &Tile};
  return kFunctions;
}

}  // namespace unipool
