// Elementary functions on vectors.
#pragma once

#include <array>
#include <type_traits>

#include "kernels/simd.h"

namespace unipool {

// Lane indices 0, 1, 2, ...
template <class T>
[[gnu::always_inline]] inline Vec<T> LaneIndices() {
  Vec<T> lanes;
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = static_cast<T>(i);
  return lanes;
}

// e^x, relative error below 1e-7 (float) and 5e-16 (double). 0 where the result would be denormal or less,
// -inf included; x above the largest finite result gives a large finite number. REQUIRES: no NaN. x = n ln 2
// + r with |r| <= ln 2 / 2; e^r by its Taylor series, 2^n by adding n to the exponent bits.
template <class T>
[[gnu::always_inline]] inline Vec<T> Exp(Vec<T> x) {
  constexpr bool kFloat = std::is_same_v<T, float>;
  constexpr T kLow = kFloat ? T(-87.3) : T(-708.3), kHigh = kFloat ? T(88.3) : T(709);
  // ln 2 in two parts, the first with so few bits that n times it is exact.
  constexpr T kLn2High = kFloat ? T(0x1.62ep-1) : T(0x1.62e42fp-1);
  constexpr T kLn2Low = kFloat ? T(0x1.0bfbe8p-15) : T(0x1.df473de6af279p-26);
  constexpr T kRound =
      kFloat ? T(0x1.8p23) : T(0x1.8p52);  // adding it rounds to an integer, in the lowest bits
  constexpr int kDegree = kFloat ? 7 : 13;
  typedef decltype(x < x) Bits;

  const Bits vanishes = x < Broadcast(kLow);
  x = x > Broadcast(kHigh) ? Broadcast(kHigh) : x;
  x = vanishes ? Broadcast(T(0)) : x;
  const Vec<T> shifted = x * T(1.4426950408889634074) + kRound;
  const Vec<T> n = shifted - kRound;
  const Vec<T> r = (x - n * kLn2High) - n * kLn2Low;
  static constexpr auto kTaylor = [] {
    std::array<T, kDegree + 1> inverse_factorial{1};
    double value = 1;
    for (int i = 1; i <= kDegree; ++i) inverse_factorial[i] = static_cast<T>(value /= i);
    return inverse_factorial;
  }();
  Vec<T> sum = Broadcast(kTaylor[kDegree]);
#pragma GCC unroll 16
  for (int i = kDegree - 1; i >= 0; --i) sum = sum * r + kTaylor[i];
  const Bits scaled = (Bits)sum + ((Bits)shifted << (kFloat ? 23 : 52));  // a cast of vectors keeps the bits
  return vanishes ? Broadcast(T(0)) : (Vec<T>)scaled;
}

// All lanes combined by halves.
template <class T, class Combine>
[[gnu::always_inline]] inline T ReduceLanes(Vec<T> x, Combine&& combine) {
  typedef decltype(x < x) Mask;
#pragma GCC unroll 8
  for (int half = kLanes<T> / 2; half >= 1; half /= 2) {
    Mask other;
    for (int i = 0; i < kLanes<T>; ++i) other[i] = i ^ half;
    x = combine(x, __builtin_shuffle(x, other));
  }
  return x[0];
}
template <class T>
[[gnu::always_inline]] inline T SumLanes(const Vec<T>& x) {
  return ReduceLanes<T>(x, [](const Vec<T>& a, const Vec<T>& b) { return a + b; });
}
template <class T>
[[gnu::always_inline]] inline T MaxLanes(const Vec<T>& x) {
  return ReduceLanes<T>(x, [](const Vec<T>& a, const Vec<T>& b) { return a > b ? a : b; });
}

template <class T>
inline T Dot(const T* a, const T* b, int64_t n) {
  Vec<T> sums = {};
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) sums += Load(a + i) * Load(b + i);
  T sum = SumLanes<T>(sums);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace unipool
