// F32 rounded to BF16, the upper half of its bits: to the nearest, ties to the even one.
#pragma once

#include <bit>
#include <cstdint>

namespace unipool {

// The bits of a number's BF16. Above 3.39e38 that is infinity. REQUIRES: x is no NaN.
inline uint16_t Bf16Bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The number that they are.
inline float FromBf16Bits(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace unipool
