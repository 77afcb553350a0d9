// Rounding against all neighbours in double.
#include "launcher/interop/bf16_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/random.h"

namespace unipool {
namespace {

TEST(Bf16Rounding, TakesTheNearestAndTheEvenOfTwo) {
  for (int i = 0; i < 100'000; ++i) {
    auto bits = static_cast<uint32_t>(RandomBits(11, i));
    if (i % 4 == 0) bits = (bits & 0xffff0000) | 0x8000;  // half way
    const auto x = std::bit_cast<float>(bits);
    if (!std::isfinite(x) || std::abs(x) > 3e38f) continue;
    const uint16_t found = Bf16Bits(x);
    const auto down = static_cast<uint16_t>(bits >> 16),
               up = static_cast<uint16_t>(down + 1);  // in magnitude
    const double below = std::abs(double{x} - FromBf16Bits(down)),
                 above = std::abs(FromBf16Bits(up) - double{x});
    const uint16_t expected = below < above ? down : above < below ? up : down % 2 == 0 ? down : up;
    EXPECT_EQ(found, expected) << x;
  }
}

TEST(Bf16Rounding, Limits) {
  EXPECT_EQ(Bf16Bits(0.f), 0);
  EXPECT_EQ(Bf16Bits(-0.f), 0x8000);
  EXPECT_TRUE(std::isinf(FromBf16Bits(Bf16Bits(std::numeric_limits<float>::max()))));
  EXPECT_EQ(FromBf16Bits(Bf16Bits(std::numeric_limits<float>::denorm_min())), 0.f);
}

}  // namespace
}  // namespace unipool
