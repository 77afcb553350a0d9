// CUDA launcher of host_values.h. The size has been checked.
#pragma once

#include <cmath>
#include <span>
#include <type_traits>

#include "kernels/cuda/launcher.h"

namespace unipool {
// How every device rounds a number of the host: integers to nearest, ties to even.
template <class T>
T RoundedTo(double x) {
  return static_cast<T>(std::is_integral_v<T> ? std::nearbyint(x) : x);
}
}  // namespace unipool

UNIPOOL_CUDA_LAUNCHER(SetValues, Stream& stream, std::span<const double> values, const Tensor& to)
