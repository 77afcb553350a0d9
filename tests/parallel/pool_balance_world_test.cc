// Statistics that are summed while other work goes on: every number gets its own sum, however many are under
// way.
#include <gtest/gtest.h>

#include "parallel/pool_balance.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int64_t kSize = 3;

double ValueOf(int rank, int64_t number, int64_t i) {
  return 10000.0 * rank + 10.0 * static_cast<double>(number) + static_cast<double>(i);
}

void ExpectSum(PoolBalance& balance, int ranks, int64_t number) {
  const std::span<const double> sum = balance.Sum(number);
  ASSERT_EQ(static_cast<int64_t>(sum.size()), kSize);
  for (int64_t i = 0; i < kSize; ++i) {
    double expected = 0;
    for (int rank = 0; rank < ranks; ++rank) expected += ValueOf(rank, number, i);
    EXPECT_EQ(sum[i], expected) << "number " << number << ", element " << i;
  }
}

TEST(PoolBalance, EveryNumberHasItsOwnSum) {
  RunOnRanks([](World& world) {
    for (const int kept : {1, 3, 35, 99}) {  // more than a communicator lets be under way, too
      PoolBalance balance(world.communicator->Split(0, world.rank()), kSize, kept);
      for (int64_t number = 0; number < 120; ++number) {
        double values[kSize];
        for (int64_t i = 0; i < kSize; ++i) values[i] = ValueOf(world.rank(), number, i);
        balance.Start(number, values);
        if (number % 40 == 39) {
          for (int64_t back = 0; back < kept && back <= number; ++back)
            ExpectSum(balance, world.size(), number - back);
        }
      }
    }
  });
}

}  // namespace
}  // namespace unipool
