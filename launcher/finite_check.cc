#include "launcher/finite_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/format.h"

namespace unipool {
namespace {

template <class T>
std::string FirstOf(const T* numbers, int64_t count) {
  constexpr int64_t kBlock = 1 << 14;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    int bad = 0;
    for (int64_t i = begin; i < end; ++i) bad |= !(std::abs(numbers[i]) <= std::numeric_limits<T>::max());
    if (!bad) continue;
    const auto* at = std::find_if(numbers + begin, numbers + end, [](T x) { return !std::isfinite(x); });
    return Format("element %d is %g", static_cast<int64_t>(at - numbers), static_cast<double>(*at));
  }
  return "";
}

}  // namespace

std::string FirstNotFinite(const Tensor& tensor) {
  if (tensor.dtype == DType::kF32) return FirstOf(tensor.as<float>(), tensor.size());
  if (tensor.dtype == DType::kF64) return FirstOf(tensor.as<double>(), tensor.size());
  return "";
}

}  // namespace unipool
