// BF16 products with AVX-512: packing, which AMX has in common, and tiles of F32 multiply-adds of widened
// numbers. The functions are compiled for it whatever the build is for, and are called only where the
// processor has it.
#include "kernels/cpu/bf16_unit.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define UNIPOOL_AVX512
// The intrinsics of GCC 12 begin some results undefined, and it warns of them where they are inlined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <cpuid.h>
#include <immintrin.h>

#include <cstring>
#endif

namespace unipool {

#if defined(UNIPOOL_AVX512)
namespace {

#define UNIPOOL_FOR_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,fma,prefer-vector-width=512")))
#define UNIPOOL_INLINE_FOR_AVX512 UNIPOOL_FOR_AVX512 inline __attribute__((always_inline))

// `count` numbers, at most 32, as BF16; the rest 0.
UNIPOOL_INLINE_FOR_AVX512 __m512i LoadRow(const char* from, bool is_bf16, int count) {
  const uint32_t mask = count >= 32 ? ~0u : (1u << count) - 1;
  if (is_bf16) return _mm512_maskz_loadu_epi16(mask, from);
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 64);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Square transpose of 16 x 16 words of 32 bits: row i begins at r[i].
UNIPOOL_INLINE_FOR_AVX512 void Transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
  }
}

UNIPOOL_INLINE_FOR_AVX512 void StoreTile(__m512i (&rows)[16], bool transposed, uint16_t* to) {
  if (transposed) Transpose(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * kBf16Block, rows[i]);
}

// Rows of k as they lie.
UNIPOOL_INLINE_FOR_AVX512 void PackRows(const Bf16BlockArgs& args, bool is_bf16, bool transposed) {
  for (int tile = 0; tile < 2; ++tile) {
    __m512i rows[16];
#pragma GCC unroll 16
    for (int i = 0; i < kBf16Tile; ++i) {
      const int outer = tile * kBf16Tile + i;
      rows[i] = outer < args.num_outer
                    ? LoadRow(args.from.at(args.outer + outer, args.k), is_bf16, args.num_k)
                    : _mm512_setzero_si512();
    }
    StoreTile(rows, transposed, args.to + tile * kBf16Tile * kBf16Block);
  }
}

// Two rows of neighbouring k become pairs. The rows of the next block are fetched meanwhile.
UNIPOOL_INLINE_FOR_AVX512 void PackPairs(const Bf16BlockArgs& args, bool is_bf16, bool transposed) {
  alignas(64) static constexpr uint16_t kFirst[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                      37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                      11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst), second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  __m512i upper[16], lower[16];
#pragma GCC unroll 16
  for (int pair = 0; pair < kBf16Block / 2; ++pair) {
    __m512i two[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const int k = 2 * pair + i;
      const char* row = args.from.at(args.outer, args.k + k);
      _mm_prefetch(row + kBf16Block * args.from.stride * (is_bf16 ? 2 : 4), _MM_HINT_T1);
      if (!is_bf16) _mm_prefetch(row + kBf16Block * args.from.stride * 4 + 64, _MM_HINT_T1);
      two[i] = k < args.num_k ? LoadRow(row, is_bf16, args.num_outer) : _mm512_setzero_si512();
    }
    upper[pair] = _mm512_permutex2var_epi16(two[0], first, two[1]);
    lower[pair] = _mm512_permutex2var_epi16(two[0], second, two[1]);
  }
  StoreTile(upper, transposed, args.to);
  StoreTile(lower, transposed, args.to + kBf16Tile * kBf16Block);
}

// R rows and N tiles of columns over one block of k. a: the first row; b: the first pair of k. next_a: what
// the first row will be. Its lines are asked for one at a time: many would fill the list of awaited lines.
template <int R, int N>
UNIPOOL_INLINE_FOR_AVX512 void AddRows(const char* a, int64_t a_row, const char* next_a, const uint16_t* b,
                                       bool add, float* c, int64_t ldc) {
  const __m512i odd_mask = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  __m512 even[R][N], odd[R][N];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) even[i][n] = odd[i][n] = _mm512_setzero_ps();
  }
  for (int pair = 0; pair < kBf16Block / 2; ++pair) {
    if (next_a && pair < R) _mm_prefetch(next_a + pair * a_row, _MM_HINT_T1);
    __m512 even_columns[N], odd_columns[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      const __m512i pairs = _mm512_load_si512(b + n * kBf16Tile * kBf16Block + pair * kBf16Block);
      even_columns[n] = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
      odd_columns[n] = _mm512_castsi512_ps(_mm512_and_si512(pairs, odd_mask));
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      int bits;
      std::memcpy(&bits, a + i * a_row + pair * 4, sizeof(bits));
      const __m512i pairs = _mm512_set1_epi32(bits);
      const __m512 even_row = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
      const __m512 odd_row = _mm512_castsi512_ps(_mm512_and_si512(pairs, odd_mask));
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) {
        even[i][n] = _mm512_fmadd_ps(even_row, even_columns[n], even[i][n]);
        odd[i][n] = _mm512_fmadd_ps(odd_row, odd_columns[n], odd[i][n]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      float* const to = c + i * ldc + n * kBf16Tile;
      const __m512 before = add ? _mm512_loadu_ps(to) : _mm512_setzero_ps();
      _mm512_storeu_ps(to, _mm512_add_ps(before, _mm512_add_ps(even[i][n], odd[i][n])));
    }
  }
}

template <int N>
UNIPOOL_FOR_AVX512 void TileOf(const Bf16TileArgs& args) {
  for (int64_t block = 0; block < args.num_blocks; ++block) {
    FetchNextResults(args, block);
    const uint16_t* const b = args.b + block * kBf16BlockNumbers;
    const bool add = args.add || block > 0;
    for (int tile = 0; tile < args.row_tiles; ++tile) {
      const int64_t offset = block * args.a_block + tile * args.a_tile;
      const char* const a = static_cast<const char*>(args.a) + offset;
      const char* const next_a = args.next_a ? args.next_a + offset : nullptr;
      float* const c = args.c + tile * kBf16Tile * args.ldc;
      AddRows<6, N>(a, args.a_row, next_a, b, add, c, args.ldc);
      AddRows<6, N>(a + 6 * args.a_row, args.a_row, next_a ? next_a + 6 * args.a_row : nullptr, b, add,
                    c + 6 * args.ldc, args.ldc);
      AddRows<4, N>(a + 12 * args.a_row, args.a_row, next_a ? next_a + 12 * args.a_row : nullptr, b, add,
                    c + 12 * args.ldc, args.ldc);
    }
  }
}

// Numbers below the least normal one are 0 meanwhile, as in AMX.
void Tile(const Bf16TileArgs& args) {
  constexpr unsigned kFlushToZero = 0x8040;  // results and operands
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushToZero);
  // No arithmetic moves past the switch.
  void (*volatile run)(const Bf16TileArgs&) = args.column_tiles == 2 ? &TileOf<2> : &TileOf<1>;
  run(args);
  _mm_setcsr(before);
}

void Nothing() {}

// The processor's words for it, and that the operating system keeps the registers.
bool ProcessorHasIt() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kFma = 1u << 12, kOsXsave = 1u << 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || ~c & (kFma | kOsXsave)) return false;
  unsigned kept = 0, high = 0;
  asm("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
  constexpr unsigned kRegisters = 0xe6;  // SSE, AVX, and the three parts of AVX-512
  if (~kept & kRegisters) return false;
  constexpr unsigned kAvx512F = 1u << 16, kAvx512Bw = 1u << 30, kAvx512Vl = 1u << 31;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || ~b & (kAvx512F | kAvx512Bw | kAvx512Vl)) return false;
  constexpr unsigned kAvx512Bf16 = 1u << 5;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & kAvx512Bf16;
}

}  // namespace

UNIPOOL_FOR_AVX512 void PackBf16WithAvx512(Bf16Form form, const Bf16BlockArgs& args) {
  const bool is_bf16 = args.from.dtype == DType::kBF16;
  if (args.from.k_contiguous) {
    if (form == Bf16Form::kRows) return is_bf16 ? PackRows(args, true, false) : PackRows(args, false, false);
    return is_bf16 ? PackRows(args, true, true) : PackRows(args, false, true);
  }
  if (form == Bf16Form::kPairs) return is_bf16 ? PackPairs(args, true, false) : PackPairs(args, false, false);
  return is_bf16 ? PackPairs(args, true, true) : PackPairs(args, false, true);
}

const Bf16Functions* Avx512Bf16Functions() {
  static const bool has = ProcessorHasIt();
  static constexpr Bf16Functions kFunctions{
      .begin = &Nothing, .end = &Nothing, .pack = &PackBf16WithAvx512, .tile = &Tile};
  return has ? &kFunctions : nullptr;
}
#else
const Bf16Functions* Avx512Bf16Functions() {
  return nullptr;
}
#endif

}  // namespace unipool
