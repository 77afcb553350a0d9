#include "runtime/range.h"

#include <algorithm>

namespace unipool {

Range EvenPartition(int64_t n, int parts, int p) {
  const int64_t base = n / parts, larger = n % parts;
  const int64_t begin = p * base + std::min<int64_t>(p, larger);
  return {begin, begin + base + (p < larger ? 1 : 0)};
}

}  // namespace unipool
