// BF16 products on the tiles of AMX. The functions are compiled for it whatever the build is for, and are
// called only where the processor and the operating system have it.
#include "kernels/cpu/bf16_unit.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define UNIPOOL_AMX
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace unipool {

#if defined(UNIPOOL_AMX)
namespace {

#define UNIPOOL_FOR_AMX __attribute__((target("amx-tile,amx-bf16")))

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

// Lines of the next operands that lie in cache lines of their own, for one block.
inline void Fetch(const Bf16TileArgs& args, int64_t block) {
  if (args.next_a) {
    const char* line = args.next_a + block * 64;
    for (int i = 0; i < kBf16Block; ++i) _mm_prefetch(line + i * args.a_row, _MM_HINT_T1);
  }
  FetchNextResults(args, block);
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
  return (d & (kAmxBf16 | kAmxTile)) == (kAmxBf16 | kAmxTile);
}

}  // namespace

const Bf16Functions* AmxBf16Functions() {
  static const bool has = Avx512Bf16Functions() && ProcessorHasAmx() && MayUseTiles();
  static constexpr Bf16Functions kFunctions{
      .begin = &Begin, .end = &End, .pack = &PackBf16WithAvx512, .tile = &Tile};
  return has ? &kFunctions : nullptr;
}
#else
const Bf16Functions* AmxBf16Functions() {
  return nullptr;
}
#endif

}  // namespace unipool
