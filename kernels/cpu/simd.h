// Vectors of the widest kind that the processor has, as the compiler's vector extension. Kernels that need
// registers in hand (products, attention) are written once with these vectors. They compile for AVX-512,
// AVX2, SSE or any other target.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <utility>

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
// Goes past the caches where the processor can. REQUIRES to aligned to vectors. Before others read it:
// EndStreaming.
template <class T>
[[gnu::always_inline]] inline void StreamStore(T* to, const Vec<T>& value) {
#if defined(__AVX512F__)
  _mm512_stream_pd(reinterpret_cast<double*>(to), reinterpret_cast<const __m512d&>(value));
#else
  Store(to, value);
#endif
}

inline void EndStreaming() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}
template <class T>
[[gnu::always_inline]] inline Vec<T> Broadcast(T value) {
  return value - Vec<T>{};
}

// Lanes j and j ^ half exchanged, for all j. Lanes are named by constants: compilers share no other shuffle.
template <class T, int kHalf>
[[gnu::always_inline]] inline Vec<T> SwapLanes(const Vec<T>& x) {
  return [&]<int... kLane>(std::integer_sequence<int, kLane...>) __attribute__((always_inline)) {
    return Vec<T>(__builtin_shufflevector(x, x, (kLane ^ kHalf)...));
  }
  (std::make_integer_sequence<int, kLanes<T>>());
}

// All lanes combined by halves, with combine(vector, vector).
template <class T, int kHalf = kLanes<T> / 2, class Combine>
[[gnu::always_inline]] inline T ReduceLanes(const Vec<T>& x, const Combine& combine) {
  if constexpr (kHalf == 0) {
    return x[0];
  } else {
    return ReduceLanes<T, kHalf / 2>(combine(x, SwapLanes<T, kHalf>(x)), combine);
  }
}
template <class T>
[[gnu::always_inline]] inline T SumLanes(const Vec<T>& x) {
  return ReduceLanes<T>(x, [](const Vec<T>& a, const Vec<T>& b) { return a + b; });
}
template <class T>
[[gnu::always_inline]] inline T MaxLanes(const Vec<T>& x) {
  return ReduceLanes<T>(x, [](const Vec<T>& a, const Vec<T>& b) { return a > b ? a : b; });
}

// The 2 x 2 blocks of the two rows transposed, whose width is kHalf lanes.
template <class T, int kHalf>
[[gnu::always_inline]] inline void SwapBlocks(Vec<T>& upper, Vec<T>& lower) {
  constexpr int n = kLanes<T>;
  [&]<int... kLane>(std::integer_sequence<int, kLane...>) __attribute__((always_inline)) {
    const Vec<T> a = upper, b = lower;
    upper = __builtin_shufflevector(a, b, ((kLane & kHalf) ? n + kLane - kHalf : kLane)...);
    lower = __builtin_shufflevector(a, b, ((kLane & kHalf) ? n + kLane : kLane + kHalf)...);
  }
  (std::make_integer_sequence<int, n>());
}

// Square transpose in registers: rows[i][j] <-> rows[j][i], log2(lanes) rounds of two-input shuffles.
template <class T, int kHalf = kLanes<T> / 2>
[[gnu::always_inline]] inline void TransposeSquare(Vec<T> (&rows)[kLanes<T>]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<T>; ++i) {
    if (!(i & kHalf)) SwapBlocks<T, kHalf>(rows[i], rows[i + kHalf]);
  }
  if constexpr (kHalf > 1) TransposeSquare<T, kHalf / 2>(rows);
}

}  // namespace unipool
