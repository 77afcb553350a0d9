// The transport problem against all ways to deal the items.
#include "models/lock/even_assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

int64_t CheapestOfAll(int bins, int items, const std::vector<int64_t>& costs) {
  std::vector<int> bin_of(items);
  for (int i = 0; i < items; ++i) bin_of[i] = i * bins / items;
  int64_t best = kForbidden;
  do {
    int64_t cost = 0;
    bool allowed = true;
    for (int i = 0; i < items; ++i) {
      const int64_t pair = costs[bin_of[i] * items + i];
      allowed &= pair < kForbidden;
      cost += allowed ? pair : 0;
    }
    if (allowed) best = std::min(best, cost);
  } while (std::next_permutation(bin_of.begin(), bin_of.end()));
  return best;
}

TEST(EvenAssignment, IsTheCheapestOfAll) {
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(SeedText());
  std::mt19937_64 random(seed);
  for (int trial = 0; trial < 300; ++trial) {
    const int bins = 1 + static_cast<int>(random() % 4),
              each = 1 + static_cast<int>(random() % (bins < 4 ? 3 : 2));
    const int items = bins * each, largest = trial % 2 == 0 ? 4 : 1'000'000;
    std::vector<int64_t> costs(bins * items);
    for (int64_t& cost : costs) {
      cost = static_cast<int64_t>(random() % largest) - largest / 2;
      if (trial % 5 == 0 && random() % 4 == 0) cost = kForbidden;
    }
    const EvenAssignment found = AssignEvenly(bins, items, costs);
    std::vector<int> sizes(bins);
    for (const int bin : found.bin_of) ++sizes[bin];
    for (const int size : sizes) ASSERT_EQ(size, each);
    ASSERT_EQ(found.cost, CheapestOfAll(bins, items, costs)) << bins << " bins of " << each;
  }
}

TEST(EvenAssignment, RepeatsItself) {
  const std::vector<int64_t> same(4 * 12, 7);
  EXPECT_EQ(AssignEvenly(4, 12, same).bin_of, AssignEvenly(4, 12, same).bin_of);
  EXPECT_EQ(AssignEvenly(4, 12, same).cost, 84);
}

}  // namespace
}  // namespace unipool
