#include "launcher/traffic_report/clock_map.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

// Ranks 0 and 1 share a clock; rank 2 has another, rank 3 tells none.
RecordedRun RunWith(std::vector<ComparedClocks> comparisons, const std::string& clock = "monotonic") {
  RecordedRun run;
  run.manifest.world = 4;
  run.manifest.clock = clock;
  run.manifest.boot_id_of_rank = {"a", "a", "b", ""};
  run.manifest.comparisons = std::move(comparisons);
  return run;
}

TEST(ClockMap, RanksOfOneBootShareAClock) {
  const ClockMap clocks(RunWith({}));
  EXPECT_EQ(clocks.num_clocks(), 3);
  EXPECT_TRUE(clocks.Share(0, 1));
  EXPECT_FALSE(clocks.Share(1, 2));
  EXPECT_TRUE(clocks.IsKnown(1));
  EXPECT_FALSE(clocks.IsKnown(2));
  EXPECT_EQ(clocks.Common(1, 123), 123);
  EXPECT_EQ(clocks.Common(1, -1), -1);
}

TEST(ClockMap, OffsetsLieOnALineBetweenComparisons) {
  const ClockMap clocks(RunWith({{.rank = 2, .own_ns = 2'000'000, .offset_ns = 300, .uncertainty_ns = 40},
                                 {.rank = 2, .own_ns = 1'000'000, .offset_ns = 100, .uncertainty_ns = 20}}));
  EXPECT_EQ(clocks.Common(2, 1'000'000), 1'000'100);
  EXPECT_EQ(clocks.Common(2, 1'500'000), 1'500'200);
  EXPECT_EQ(clocks.UncertaintyNs(2, 1'500'000), 30);
  EXPECT_EQ(clocks.Common(2, 3'000'000), 3'000'500);  // the line goes on
  EXPECT_EQ(clocks.UncertaintyNs(2, 3'000'000), 100);
  EXPECT_EQ(clocks.Common(2, 0), -100);
  EXPECT_NEAR(clocks.LargestDrift(), 200e-6, 1e-12);
  EXPECT_EQ(clocks.UncertaintyBetween(0, 1, 1'500'000), 0);
  EXPECT_NEAR(clocks.UncertaintyBetween(0, 2, 1'500'000), 30, 1);
}

// One comparison says nothing of drift.
TEST(ClockMap, UncertaintyGrowsAwayFromASingleComparison) {
  const ClockMap clocks(RunWith({{.rank = 2, .own_ns = 1'000'000, .offset_ns = 100, .uncertainty_ns = 20}}));
  EXPECT_EQ(clocks.Common(2, 2'000'000), 2'000'100);
  EXPECT_EQ(clocks.UncertaintyNs(2, 1'000'000), 20);
  EXPECT_NEAR(clocks.UncertaintyNs(2, 2'000'000), 20 + ClockMap::kUnknownDrift * 1'000'000, 1);
}

TEST(ClockMap, VirtualTimeIsOneForAll) {
  const ClockMap clocks(RunWith({}, "virtual"));
  EXPECT_EQ(clocks.num_clocks(), 1);
  EXPECT_TRUE(clocks.IsKnown(3));
}

}  // namespace
}  // namespace unipool
