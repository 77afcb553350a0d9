#include <gtest/gtest.h>

#include "runtime/clock_probe.h"
#include "runtime/traffic_recorder.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

// All ranks live on one host, so the true offset is what the test adds.
TEST(CompareClocks, FindsAnOffsetWithinItsUncertainty) {
  RunOnRanks([](World& world) {
    for (int other = 1; other < world.size(); ++other) {
      const TrafficClock clock{.offset_ns = world.rank() * int64_t{3'000'000'000}, .drift = 0};
      const ClockComparison found =
          CompareClocks(*world.communicator, other, 50, [&] { return clock.Now(); });
      if (world.rank() != 0 && world.rank() != other) continue;
      EXPECT_NEAR(static_cast<double>(found.offset_ns), -3e9 * other,
                  static_cast<double>(found.uncertainty_ns));
      EXPECT_GT(found.uncertainty_ns, 0);
      EXPECT_LT(found.uncertainty_ns, 100'000'000);
      EXPECT_EQ(found.num_probes, 50);
      const double age =
          static_cast<double>(TrafficClock{}.Now() + other * int64_t{3'000'000'000} - found.own_ns);
      EXPECT_GT(age, 0);
      EXPECT_LT(age, 1e11);
    }
  });
}

TEST(BootId, IsTheSameOnAllRanksOfAHost) {
  EXPECT_EQ(BootId(), BootId());
  EXPECT_EQ(BootId().size(), 36u);
}

}  // namespace
}  // namespace unipool
