// exp(x) that a plain loop over floats turns into vector instructions. (libm's expf is a call for each
// element.) It has no branches and no tables. It is 2^n * e^r with n = round(x / ln 2), |r| <= ln(2) / 2, and
// a polynomial in r.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace unipool {

// a * b + c in one rounding where the processor can do so in one instruction; never a library call.
inline float MulAdd(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
inline double MulAdd(double a, double b, double c) {
#ifdef __FP_FAST_FMA
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// Relative error at most 2e-7 for -86.6 <= x <= 88.72. Smaller x give exactly 0, where the true value is
// under 2.5e-38. Larger x give +infinity. exp(0) is exactly 1. NaN stays NaN.
inline float FastExp(float x) {
  constexpr float kLowest = -86.6f, kHighest = 88.72f;
  // 1.5 * 2^23. Adding it leaves the rounded integer in the low bits of the mantissa.
  constexpr float kRound = 12582912.0f;
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float low_clamped = x < kLowest ? kLowest : x;
  const float y = low_clamped > kHighest ? kHighest : low_clamped;
  const float shifted = MulAdd(y, kLog2E, kRound);
  const float n = shifted - kRound;
  const float r = MulAdd(n, -kLn2Low, MulAdd(n, -kLn2High, y));
  // Minimax fit of (e^r - 1 - r) / r^2 on |r| <= 0.3466: 3e-9 of e^r, far below rounding.
  float p = 1.3814321e-3f;
  p = MulAdd(p, r, 8.3688507e-3f);
  p = MulAdd(p, r, 4.1668400e-2f);
  p = MulAdd(p, r, 1.6666520e-1f);
  p = MulAdd(p, r, 4.9999994e-1f);
  const float e_r = MulAdd(p, r * r, r) + 1.0f;
  // 2^n would overflow for n = 128, so 2^(n-1) and one doubling.
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float scale = std::bit_cast<float>(exponent + (126u << 23));
  const float result = (e_r + e_r) * scale;
  const float not_low = x < kLowest ? 0.0f : result;
  return x > kHighest ? std::numeric_limits<float>::infinity() : not_low;
}
inline double FastExp(double x) {
  return std::exp(x);
}
inline constexpr double kFastExpFlops = 21;  // its multiplications and additions, for the account of costs

}  // namespace unipool
