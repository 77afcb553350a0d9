// Sums and maxima of long rows on vector instructions without -ffast-math. The order of terms is fixed here.
// Terms go in turn to the lanes of two vectors, which are joined at the end. The result depends on the terms
// and their number alone, not on addresses.
//
// A term is a generic function of a position. Example, a dot product:
//   VectorSum<T>(n, [=](auto at) { return at(x) * at(y); })
// at(x) is a vector of neighbouring elements of x, or a single element in the tail. Selects work on both:
// at(x) > 0 ? at(y) : T(0).
#pragma once

#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/simd.h"

namespace unipool {

// Positions of terms. Floats are widened where the sum is in double.
template <class T>
struct VectorAt {
  int64_t i;
  Vec<T> operator()(const T* p) const { return Load(p + i); }
  template <class U>
  Vec<T> operator()(const U* p) const {
    typedef U Narrow __attribute__((vector_size(kLanes<T> * sizeof(U))));
    Narrow narrow;
    std::memcpy(&narrow, p + i, sizeof(narrow));
    return __builtin_convertvector(narrow, Vec<T>);
  }
};
template <class T>
struct ElementAt {
  int64_t i;
  template <class U>
  T operator()(const U* p) const {
    return p[i];
  }
};

// The lanes of a vector joined as a tree, lane l with lane l + half; the halves are narrower vectors, so that
// each level is one fixed shuffle.
template <class T, int kCount = kLanes<T>, class Vector, class Join>
[[gnu::always_inline]] inline T FoldLanes(const Vector& v, Join join) {
  if constexpr (kCount == 2) {
    return join(v[0], v[1]);
  } else {
    constexpr int kHalf = kCount / 2;
    typedef T Half __attribute__((vector_size(kHalf * sizeof(T))));
    return [&]<int... kLane>(std::integer_sequence<int, kLane...>) __attribute__((always_inline)) {
      const Half low = __builtin_shufflevector(v, v, kLane...);
      const Half high = __builtin_shufflevector(v, v, (kLane + kHalf)...);
      const Half joined = join(low, high);
      return FoldLanes<T, kHalf>(joined, join);
    }
    (std::make_integer_sequence<int, kHalf>());
  }
}

// join(...) over the terms 0 .. n - 1, starting from `identity` in every lane.
template <class T, class Term, class Join>
inline T VectorReduce(int64_t n, T identity, Term term, Join join) {
  constexpr int64_t kStep = kLanes<T>;
  Vec<T> even = Broadcast(identity), odd = even;
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    even = join(even, term(VectorAt<T>{i}));
    odd = join(odd, term(VectorAt<T>{i + kStep}));
  }
  if (i + kStep <= n) {
    even = join(even, term(VectorAt<T>{i}));
    i += kStep;
  }
  if (i < n) {
    alignas(64) T tail[kStep];
    for (int64_t lane = 0; lane < kStep; ++lane) {
      tail[lane] = i + lane < n ? term(ElementAt<T>{i + lane}) : identity;
    }
    odd = join(odd, Load(tail));
  }
  const Vec<T> joined = join(even, odd);
  return FoldLanes<T>(joined, join);
}

template <class T, class Term>
inline T VectorSum(int64_t n, Term term) {
  return VectorReduce<T>(n, T(0), term, [](const auto& a, const auto& b) { return a + b; });
}

// -infinity for n = 0. A NaN is passed over.
template <class T, class Term>
inline T VectorMax(int64_t n, Term term) {
  return VectorReduce<T>(n, -std::numeric_limits<T>::infinity(), term,
                         [](const auto& a, const auto& b) { return a < b ? b : a; });
}

}  // namespace unipool
