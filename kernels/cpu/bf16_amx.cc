// BF16 products on the tiles of AMX. The functions are compiled for it whatever the build is for, and are
// called only where the processor and the operating system have it.
#include "kernels/cpu/bf16_unit.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define UNIPOOL_AMX
// The intrinsics of GCC 12 begin some results undefined, and it warns of them where they are inlined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace unipool {

#if defined(UNIPOOL_AMX)
namespace {

#define UNIPOOL_FOR_AMX \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")))
#define UNIPOOL_INLINE_FOR_AMX UNIPOOL_FOR_AMX inline __attribute__((always_inline))

// All of the eight tiles have 16 rows of 64 bytes.
UNIPOOL_FOR_AMX void Begin() {
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  static_assert(sizeof(config) == 64);
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}
UNIPOOL_FOR_AMX void End() {
  _tile_release();
}

// `count` numbers, at most 32, as BF16; the rest 0.
UNIPOOL_INLINE_FOR_AMX __m512i LoadRow(const char* from, bool is_bf16, int count) {
  const uint32_t mask = count >= 32 ? ~0u : (1u << count) - 1;
  if (is_bf16) return _mm512_maskz_loadu_epi16(mask, from);
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 64);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Square transpose of 16 x 16 words of 32 bits: row i begins at r[i].
UNIPOOL_INLINE_FOR_AMX void Transpose(__m512i (&r)[16]) {
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

UNIPOOL_INLINE_FOR_AMX void StoreTile(__m512i (&rows)[16], bool transposed, uint16_t* to) {
  if (transposed) Transpose(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * kBf16Block, rows[i]);
}

// Rows of k as they lie.
UNIPOOL_INLINE_FOR_AMX void PackRows(const Bf16BlockArgs& args, bool is_bf16, bool transposed) {
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
UNIPOOL_INLINE_FOR_AMX void PackPairs(const Bf16BlockArgs& args, bool is_bf16, bool transposed) {
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

UNIPOOL_FOR_AMX void Pack(Bf16Form form, const Bf16BlockArgs& args) {
  const bool is_bf16 = args.from.dtype == DType::kBF16;
  if (args.from.k_contiguous) {
    if (form == Bf16Form::kRows) return is_bf16 ? PackRows(args, true, false) : PackRows(args, false, false);
    return is_bf16 ? PackRows(args, true, true) : PackRows(args, false, true);
  }
  if (form == Bf16Form::kPairs) return is_bf16 ? PackPairs(args, true, false) : PackPairs(args, false, false);
  return is_bf16 ? PackPairs(args, true, true) : PackPairs(args, false, true);
}

// Lines of the next operands that lie in cache lines of their own, for one block.
UNIPOOL_INLINE_FOR_AMX void Fetch(const Bf16TileArgs& args, int64_t block) {
  if (args.next_a) {
    const char* line = args.next_a + block * 64;
    for (int i = 0; i < kBf16Block; ++i) _mm_prefetch(line + i * args.a_row, _MM_HINT_T1);
  }
  if (args.next_c) {
    const int64_t begin = 64 * block / args.num_blocks, end = 64 * (block + 1) / args.num_blocks;
    for (int64_t i = begin; i < end; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(args.next_c + i / 2 * args.ldc + i % 2 * 16), _MM_HINT_T0);
    }
  }
}

// Tiles 0..3 are c, 4 and 5 are a, 6 and 7 are b.
template <int kRowTiles, int kColumnTiles>
UNIPOOL_FOR_AMX void TileOf(const Bf16TileArgs& args) {
  float* const c = args.c;
  const int64_t c_row = args.ldc * 4, c_tile = kBf16Tile * args.ldc;
  asm volatile("" : : : "memory");  // what was packed is in memory
  if (args.add) {
    _tile_loadd(0, c, c_row);
    if constexpr (kColumnTiles == 2) _tile_loadd(1, c + kBf16Tile, c_row);
    if constexpr (kRowTiles == 2) _tile_loadd(2, c + c_tile, c_row);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_loadd(3, c + c_tile + kBf16Tile, c_row);
  } else {
    _tile_zero(0);
    if constexpr (kColumnTiles == 2) _tile_zero(1);
    if constexpr (kRowTiles == 2) _tile_zero(2);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_zero(3);
  }
  const char* a = static_cast<const char*>(args.a);
  const uint16_t* b = args.b;
  for (int64_t block = 0; block < args.num_blocks; ++block, a += args.a_block, b += kBf16BlockNumbers) {
    Fetch(args, block);
    _tile_loadd(4, a, args.a_row);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumnTiles == 2) {
      _tile_loadd(7, b + kBf16Tile * kBf16Block, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, a + args.a_tile, args.a_row);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, c_row);
  if constexpr (kColumnTiles == 2) _tile_stored(1, c + kBf16Tile, c_row);
  if constexpr (kRowTiles == 2) _tile_stored(2, c + c_tile, c_row);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) _tile_stored(3, c + c_tile + kBf16Tile, c_row);
}

void Tile(const Bf16TileArgs& args) {
  if (args.row_tiles == 2) return args.column_tiles == 2 ? TileOf<2, 2>(args) : TileOf<2, 1>(args);
  return args.column_tiles == 2 ? TileOf<1, 2>(args) : TileOf<1, 1>(args);
}

// Linux gives the tiles' 8 KiB of state to processes that ask for it; threads made later have it too.
bool MayUseTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool ProcessorHasAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  constexpr unsigned kAvx512F = 1u << 16, kAvx512Bw = 1u << 30, kAvx512Vl = 1u << 31;
  if (~d & (kAmxBf16 | kAmxTile) || ~b & (kAvx512F | kAvx512Bw | kAvx512Vl)) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d)) return false;
  constexpr unsigned kAvx512Bf16 = 1u << 5;
  return a & kAvx512Bf16;
}

}  // namespace

const Bf16Functions* AmxBf16Functions() {
  static const bool has = ProcessorHasAmx() && MayUseTiles();
  static constexpr Bf16Functions kFunctions{.begin = &Begin, .end = &End, .pack = &Pack, .tile = &Tile};
  return has ? &kFunctions : nullptr;
}
#else
const Bf16Functions* AmxBf16Functions() {
  return nullptr;
}
#endif

}  // namespace unipool
