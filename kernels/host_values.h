// A few numbers of the host become a tensor of the stream's device. On CUDA they travel as arguments of a
// launch. So the host's memory is free when the call returns, and the order is the stream's.
#pragma once

#include <cmath>
#include <span>
#include <type_traits>

#include "runtime/stream.h"

namespace unipool {

// How every device rounds a number of the host. Integers are rounded to nearest, ties to even.
template <class T>
T RoundedTo(double x) {
  return static_cast<T>(std::is_integral_v<T> ? std::nearbyint(x) : x);
}

// to[i] = values[i], rounded to the type of `to`: F32, F64, I32, I64, and on CUDA also BF16 (through F32). On
// CUDA it is one launch for each 3840 bytes of `to`.
void SetValues(Stream& stream, std::span<const double> values, const Tensor& to /*[n]*/);

}  // namespace unipool
