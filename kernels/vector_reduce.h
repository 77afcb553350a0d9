// Sums and maxima that run on vector instructions without -ffast-math because their order is fixed here:
// terms go in turn to the lanes of two packs, the packs are added, and the lanes are joined as a binary tree.
// The result depends on the terms and their number alone, not on addresses or on the processor's vector
// width.
//
// A term is a generic function of a position: VectorSum<T>(n, [=](auto at) { return at(x) * at(y); }) where
// at(x) is a pack of neighbouring elements of x, or a single one in the tail. Selects work on both: at(x) > 0
// ? at(y) : T(0).
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

namespace unipool {

// 64 bytes of T; arithmetic, comparison and ?: work lane by lane. Compilers split it where vectors are
// shorter.
template <class T>
struct PackOf {
  typedef T Type __attribute__((vector_size(64)));
};
template <class T>
using Pack = typename PackOf<T>::Type;
template <class T>
inline constexpr int64_t kLanes = 64 / sizeof(T);

// The pack at p, which need not be aligned.
template <class T>
inline Pack<T> LoadPack(const T* p) {
  Pack<T> pack;
  std::memcpy(&pack, p, sizeof(pack));
  return pack;
}
template <class T>
inline void StorePack(const Pack<T>& pack, T* p) {
  std::memcpy(p, &pack, sizeof(pack));
}

// Positions of terms; floats are widened where the sum is in double.
template <class T>
struct PackAt {
  int64_t i;
  Pack<T> operator()(const T* p) const { return LoadPack<T>(p + i); }
  template <class U>
  Pack<T> operator()(const U* p) const {
    typedef U Narrow __attribute__((vector_size(kLanes<T> * sizeof(U))));
    Narrow narrow;
    std::memcpy(&narrow, p + i, sizeof(narrow));
    return __builtin_convertvector(narrow, Pack<T>);
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

// Joins the lanes of a pack as a tree: lane l with lane l + half.
template <class T, int kCount = kLanes<T>, class Vector, class Join>
inline T FoldLanes(const Vector& v, Join join) {
  if constexpr (kCount == 2) {
    return join(v[0], v[1]);
  } else {
    constexpr int kHalf = kCount / 2;
    typedef T Half __attribute__((vector_size(kHalf * sizeof(T))));
    return [&]<int... kLane>(std::integer_sequence<int, kLane...>) {
      const Half low = __builtin_shufflevector(v, v, kLane...);
      const Half high = __builtin_shufflevector(v, v, (kLane + kHalf)...);
      return FoldLanes<T, kHalf>(Half(join(low, high)), join);
    }
    (std::make_integer_sequence<int, kHalf>());
  }
}

// join(...) over the terms 0 .. n - 1, starting from `identity` in every lane.
template <class T, class Term, class Join>
inline T VectorReduce(int64_t n, T identity, Term term, Join join) {
  constexpr int64_t kStep = kLanes<T>;
  Pack<T> even = Pack<T>{} + identity, odd = even;
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    even = join(even, term(PackAt<T>{i}));
    odd = join(odd, term(PackAt<T>{i + kStep}));
  }
  if (i + kStep <= n) {
    even = join(even, term(PackAt<T>{i}));
    i += kStep;
  }
  if (i < n) {
    T tail[kStep];
    for (int64_t lane = 0; lane < kStep; ++lane)
      tail[lane] = i + lane < n ? term(ElementAt<T>{i + lane}) : identity;
    odd = join(odd, LoadPack(tail));
  }
  return FoldLanes<T>(Pack<T>(join(even, odd)), join);
}

template <class T, class Term>
inline T VectorSum(int64_t n, Term term) {
  return VectorReduce<T>(n, T(0), term, [](const auto& a, const auto& b) { return a + b; });
}

inline constexpr auto kLarger = [](const auto& a, const auto& b) { return a < b ? b : a; };

// -infinity for n = 0. A NaN is passed over.
template <class T, class Term>
inline T VectorMax(int64_t n, Term term) {
  return VectorReduce<T>(n, -std::numeric_limits<T>::infinity(), term, kLarger);
}

}  // namespace unipool
