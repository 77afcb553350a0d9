// Vectors of the widest kind that the processor has, as the compiler's vector extension. Kernels that need
// registers in hand (products, attention) are written once with these vectors. They compile for AVX-512,
// AVX2, SSE or any other target.
#pragma once

#include <cstdint>

namespace unipool {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kVectorRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32, kVectorRegisters = 16;
#else
inline constexpr int kVectorBytes = 16, kVectorRegisters = 16;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
struct Simd {
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <class T>
using Vec = typename Simd<T>::Vector;

template <class T>
[[gnu::always_inline]] inline Vec<T> Load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}
template <class T>
[[gnu::always_inline]] inline void Store(T* to, const Vec<T>& value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}
template <class T>
[[gnu::always_inline]] inline Vec<T> Broadcast(T value) {
  return value - Vec<T>{};
}

// All lanes combined by halves, with combine(vector, vector).
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

// Square transpose in registers: rows[i][j] <-> rows[j][i], log2(lanes) rounds of two-input shuffles.
template <class T>
[[gnu::always_inline]] inline void TransposeSquare(Vec<T> (&rows)[kLanes<T>]) {
  typedef decltype(rows[0] < rows[0]) Mask;
  constexpr int n = kLanes<T>;
#pragma GCC unroll 8
  for (int half = n / 2; half >= 1; half /= 2) {
    Mask low, high;
    for (int j = 0; j < n; ++j) {
      low[j] = (j & half) ? n + j - half : j;
      high[j] = (j & half) ? n + j : j + half;
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
      if (i & half) continue;
      const Vec<T> a = rows[i], b = rows[i + half];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + half] = __builtin_shuffle(a, b, high);
    }
  }
}

}  // namespace unipool
