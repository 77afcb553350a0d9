// How far memory that grows is mapped. Nothing here needs CUDA.
#pragma once

#include <algorithm>
#include <cstdint>

namespace unipool::cuda {

// Memory that has grown once grows by this share of itself at least.
inline constexpr int64_t kGrowthDivisor = 16;

// Bytes to have mapped where `bytes` are wanted and `mapped` are there. The first time that is what is
// wanted. Later it is 1/16 more than there was, at least: routing sets new records by little, and each growth
// stops the host amid a slot. Multiples of `granularity`, at most `max`. REQUIRES: mapped < bytes <= max;
// mapped and max are multiples of granularity.
constexpr int64_t NextMapped(int64_t bytes, int64_t mapped, int64_t max, int64_t granularity) {
  const int64_t wanted = std::max(bytes, mapped + mapped / kGrowthDivisor);
  return std::min(max, (wanted + granularity - 1) / granularity * granularity);
}

}  // namespace unipool::cuda
