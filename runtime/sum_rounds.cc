#include "runtime/sum_rounds.h"

#include <algorithm>

#include "runtime/range.h"

namespace unipool {
namespace {

// Tensors go round by round, each round a piece of every rank's part, so that memory on the way stays small
// whatever the tensor's size.
constexpr int64_t kMinPieceBytes = 64 << 10;

int64_t PieceBytes(int64_t round_bytes, int size) {
  return std::max(kMinPieceBytes, round_bytes / size / 64 * 64);
}

}  // namespace

int64_t SumPieceElements(int64_t n, int64_t element_bytes, int size, int64_t round_bytes) {
  const int64_t largest_part = EvenPartition(n, size, 0).size();
  return std::max<int64_t>(1, std::min(PieceBytes(round_bytes, size) / element_bytes, largest_part));
}

}  // namespace unipool
