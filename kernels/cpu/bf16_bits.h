// F32 rounded to BF16, the upper half of its bits, and back.
#pragma once

#include <bit>
#include <cstdint>

namespace unipool {

// To nearest, ties to even; NaN stays NaN.
inline uint16_t RoundToBf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
  return static_cast<uint16_t>(x != x ? quiet : rounded);
}
inline float FromBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}
inline void RoundToBf16(const float* from, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = RoundToBf16(from[i]);
}

}  // namespace unipool
