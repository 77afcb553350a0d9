// Reductions that vectorise without -ffast-math because their order is fixed here: term i goes to lane i mod
// 32, and the lanes are joined as a binary tree. The result depends on the terms and their number alone.
#pragma once

#include <cstdint>
#include <limits>

namespace unipool {

// result = join(...) over term(0) .. term(n - 1), starting from `identity` in every lane.
template <class T, class Term, class Join>
inline T VectorReduce(int64_t n, T identity, Term term, Join join) {
  constexpr int64_t kLanes = 32;
  T lanes[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = identity;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = join(lanes[lane], term(i + lane));
  }
  for (int64_t lane = 0; i + lane < n; ++lane) lanes[lane] = join(lanes[lane], term(i + lane));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) lanes[lane] = join(lanes[lane], lanes[lane + half]);
  }
  return lanes[0];
}

template <class T, class Term>
inline T VectorSum(int64_t n, Term term) {
  return VectorReduce<T>(n, T(0), term, [](T a, T b) { return a + b; });
}

// -infinity for n = 0. A NaN is passed over.
template <class T, class Term>
inline T VectorMax(int64_t n, Term term) {
  return VectorReduce<T>(n, -std::numeric_limits<T>::infinity(), term,
                         [](T a, T b) { return a < b ? b : a; });
}

}  // namespace unipool
