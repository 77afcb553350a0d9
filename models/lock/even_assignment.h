// The cheapest way to deal M items to L bins of M / L items each: a transport problem, solved exactly by
// shortest augmenting paths over the bins. Integers alone, so every rank finds the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace unipool {

// A cost that forbids a pair. Others must be small beside it: |cost| * items < kForbidden.
inline constexpr int64_t kForbidden = int64_t{1} << 55;

struct EvenAssignment {
  std::vector<int> bin_of;  // [items]
  int64_t cost = 0;         // kForbidden: every way has a forbidden pair
};

// costs [bins * items]. REQUIRES: bins divides items. Of ways of one cost it is always the same one.
EvenAssignment AssignEvenly(int bins, int items, std::span<const int64_t> costs);

}  // namespace unipool
