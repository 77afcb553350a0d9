#include "runtime/emulated_link.h"

#include <algorithm>

namespace unipool {

double IncomingLink::Take(double ready, double seconds) {
  if (seconds <= 0) return ready;
  double begin = std::max(ready, forgotten_until_);
  auto next =
      std::partition_point(busy_.begin(), busy_.end(), [&](const auto& b) { return b.second <= begin; });
  for (; next != busy_.end() && next->first < begin + seconds; ++next) begin = std::max(begin, next->second);
  const bool joins_last = next != busy_.begin() && std::prev(next)->second == begin;
  const bool joins_next = next != busy_.end() && next->first == begin + seconds;
  if (joins_last && joins_next) {
    std::prev(next)->second = next->second;
    busy_.erase(next);
  } else if (joins_last) {
    std::prev(next)->second = begin + seconds;
  } else if (joins_next) {
    next->first = begin;
  } else {
    busy_.insert(next, {begin, begin + seconds});
  }
  if (busy_.size() > kMostKept) {
    forgotten_until_ = busy_.front().second;
    busy_.erase(busy_.begin());
  }
  return begin;
}

}  // namespace unipool
