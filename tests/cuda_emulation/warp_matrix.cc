#include "tests/cuda_emulation/warp_matrix.h"

#include <bit>
#include <cstring>

#include "tests/cuda_emulation/machine.h"

namespace unipool::emulation {
namespace {

constexpr unsigned kAll = 0xffffffffu;

// Half `half` of a register of two bf16.
float Element(uint32_t pair, int half) {
  return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
}

struct MmaIn {
  uint32_t a[4], b[2];
  float d[4];
};

void DoMma(const void* const in[32], void* const out[32]) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaIn& mine = *static_cast<const MmaIn*>(in[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int r = 0; r < 4; ++r) a[g + r % 2 * 8][2 * t + half + r / 2 * 8] = Element(mine.a[r], half);
      for (int r = 0; r < 2; ++r) b[2 * t + half + r * 8][g] = Element(mine.b[r], half);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    float* d = static_cast<float*>(out[lane]);
    for (int r = 0; r < 4; ++r) {
      const int row = g + r / 2 * 8, column = 2 * t + r % 2;
      float sum = static_cast<const MmaIn*>(in[lane])->d[r];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      d[r] = sum;
    }
  }
}

struct RowIn {
  const char* row;
};

template <bool kTransposed>
void DoLoad(const void* const in[32], void* const out[32]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (reinterpret_cast<uintptr_t>(static_cast<const RowIn*>(in[lane])->row) % 16 != 0) {
      Machine::Current().Fail("a misaligned access: ldmatrix wants rows at multiples of 16 bytes, lane " +
                              std::to_string(lane) + " has none");
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    uint32_t* matrix = static_cast<uint32_t*>(out[lane]);
    for (int m = 0; m < 4; ++m) {
      uint16_t pair[2];
      for (int half = 0; half < 2; ++half) {
        const int g = lane / 4, i = 2 * (lane % 4) + half;
        const int row = kTransposed ? i : g, column = kTransposed ? g : i;
        std::memcpy(&pair[half], static_cast<const RowIn*>(in[8 * m + row])->row + 2 * column, 2);
      }
      matrix[m] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

}  // namespace

void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             const std::source_location& where) {
  MmaIn in;
  std::memcpy(in.a, a, sizeof(a));
  std::memcpy(in.b, b, sizeof(b));
  std::memcpy(in.d, d, sizeof(d));
  Machine::Current().Together(kAll, &DoMma, &in, d, where);
}

void LoadMatrices(uint32_t (&matrix)[4], const void* row, bool transposed,
                  const std::source_location& where) {
  const RowIn in = {static_cast<const char*>(row)};
  Machine::Current().Together(kAll, transposed ? &DoLoad<true> : &DoLoad<false>, &in, matrix, where);
}

}  // namespace unipool::emulation
