// The rounds in which sums over ranks go (communicator.h): each takes a piece of every rank's part.
#pragma once

#include <cstdint>

namespace unipool {

// SumRoundBytes of the host's communicators; a gather on the host goes all at once.
inline constexpr int64_t kHostSumRoundBytes = int64_t{4} << 20;
inline constexpr int64_t kAllAtOnce = INT64_MAX;

// Elements of each rank's part in one round of a sum of n elements over `size` ranks. There are as many
// rounds as the largest part needs.
int64_t SumPieceElements(int64_t n, int64_t element_bytes, int size, int64_t round_bytes);

}  // namespace unipool
