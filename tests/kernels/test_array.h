// Arrays for kernel tests: they own their memory, start out poisoned and notice writes past their end.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "runtime/stream.h"

namespace unipool {

// A value that no correct kernel leaves in its output: NaN, or a large odd integer.
template <class T>
constexpr T Poison() {
  if constexpr (std::numeric_limits<T>::has_quiet_NaN) return std::numeric_limits<T>::quiet_NaN();
  return static_cast<T>(-1234567);
}

template <class T>
class Array {
 public:
  explicit Array(std::initializer_list<int64_t> shape, T value = Poison<T>())
      : view_(nullptr, DTypeOf<T>::value, shape), values_(view_.size() + kGuard, value) {
    view_.data = values_.data();
    std::fill(values_.end() - kGuard, values_.end(), Poison<T>());
  }
  Array(const Array& other) : view_(other.view_), values_(other.values_) { view_.data = values_.data(); }
  Array& operator=(const Array&) = delete;
  ~Array() {
    const std::vector<T> guard(kGuard, Poison<T>());
    EXPECT_EQ(std::memcmp(values_.data() + size(), guard.data(), kGuard * sizeof(T)), 0)
        << "written past the end of " << view_.ShapeString();
  }

  int64_t size() const { return view_.size(); }
  T& operator[](int64_t i) { return values_[i]; }
  T operator[](int64_t i) const { return values_[i]; }
  const Tensor& tensor() const { return view_; }
  operator const Tensor&() const { return view_; }
  bool BitEquals(const Array& other) const {
    return size() == other.size() &&
           std::memcmp(values_.data(), other.values_.data(), size() * sizeof(T)) == 0;
  }
  // The same values in another type.
  template <class U>
  Array<U> As() const {
    Array<U> result({0});
    result.Assign(view_, values_);
    return result;
  }
  template <class U>
  void Assign(const Tensor& shape, const std::vector<U>& values) {
    view_ = shape;
    view_.dtype = DTypeOf<T>::value;
    values_.assign(values.begin(), values.end());
    std::fill(values_.end() - kGuard, values_.end(), Poison<T>());
    view_.data = values_.data();
  }

 private:
  static constexpr int64_t kGuard = 32;
  Tensor view_;
  std::vector<T> values_;  // the elements, then the guard
};

// Uniform in [low, high); the generator's own bits, so that every standard library gives the same numbers.
inline double Uniform(std::mt19937_64& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random() >> 11) * 0x1p-53;
}
inline int64_t UniformInt(std::mt19937_64& random, int64_t n) {
  return static_cast<int64_t>(random() % n);
}

template <class T>
Array<T> RandomArray(std::mt19937_64& random, std::initializer_list<int64_t> shape, double low = -1,
                     double high = 1) {
  Array<T> array(shape);
  for (int64_t i = 0; i < array.size(); ++i) array[i] = static_cast<T>(Uniform(random, low, high));
  return array;
}

template <class T>
double LargestMagnitude(const Array<T>& array) {
  double largest = 0;
  for (int64_t i = 0; i < array.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(array[i])));
  return largest;
}

// Every element of `actual` within relative * |expected| + absolute of `expected`; a NaN is never near.
template <class T>
void ExpectNear(const Array<T>& actual, const Array<double>& expected, double relative, double absolute) {
  ASSERT_EQ(actual.size(), expected.size());
  for (int64_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    ASSERT_TRUE(difference <= relative * std::abs(expected[i]) + absolute)
        << "element " << i << " is " << actual[i] << ", expected " << expected[i];
  }
}

// Compares `gradient` with fourth-order central differences of loss(), a function of `x`, element by element.
inline void ExpectGradient(const Array<double>& gradient, Array<double>& x,
                           const std::function<double()>& loss) {
  ASSERT_EQ(gradient.size(), x.size());
  constexpr double kStep = 1e-3, kRelative = 1e-6;
  const double floor = 1e-3 * kRelative * LargestMagnitude(gradient) + 1e-12;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    const auto at = [&](double steps) {
      x[i] = value + steps * kStep;
      return loss();
    };
    const double difference = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kStep);
    x[i] = value;
    ASSERT_TRUE(std::abs(difference - gradient[i]) <= kRelative * std::abs(difference) + floor)
        << "element " << i << ": gradient " << gradient[i] << ", finite difference " << difference;
  }
}

// A stream whose costs are recorded.
struct TestStream {
  MemoryMeter meter;
  Profile profile;
  Stream stream{meter};
  TestStream() { stream.set_profile(&profile); }
  operator Stream&() { return stream; }
  // Since the last call, `op` ran once and declared to move this many bytes at least.
  void ExpectOneCall(Op op, double bytes) {
    EXPECT_EQ(profile.Total().calls, 1);
    EXPECT_EQ(profile.cost(op).calls, 1);
    EXPECT_EQ(profile.cost(op).bytes, bytes);
    profile.Reset();
  }
};

}  // namespace unipool
