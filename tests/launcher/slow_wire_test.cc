#include "launcher/traffic_report/slow_wire.h"

#include <gtest/gtest.h>

#include "launcher/traffic_report/traffic_report.h"
#include "tests/fresh_seed.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

WireRates Rates(const std::vector<std::vector<double>>& megabytes_per_second, const std::vector<int>& nodes,
                const std::vector<double>& ports = {}) {
  ExampleRun run(static_cast<int>(nodes.size()), "wires");
  run.nodes_ = nodes;
  Planted plan{.world = static_cast<int>(nodes.size()),
               .layers = 10,
               .steps = 4,
               .seed = static_cast<uint32_t>(FreshSeed())};
  plan.compute_us.assign(nodes.size(), 100);
  plan.rows.assign(nodes.size(), 1);
  plan.megabytes_per_second = megabytes_per_second;
  plan.port_megabytes_per_second = ports;
  AddPlanted(run, plan);
  run.Write();
  const TrafficReport report = MakeTrafficReport(run.path(), {});
  return FindSlowWires(report.traffic, report.run.manifest);
}

std::vector<std::vector<double>> Everywhere(size_t ranks, double rate) {
  return std::vector<std::vector<double>>(ranks, std::vector<double>(ranks, rate));
}

TEST(SlowWire, FindsTheWireBetweenTwoRanks) {
  auto rates = Everywhere(5, 500);
  rates[3][1] = 100;
  const WireRates found = Rates(rates, {0, 0, 0, 0, 0});
  ASSERT_EQ(found.slow.size(), 1u) << SeedText();
  EXPECT_EQ(found.slow[0].from, 3);
  EXPECT_EQ(found.slow[0].to, 1);
  EXPECT_TRUE(found.slow[0].is_one_way);
  EXPECT_NEAR(found.slow[0].rate, 100e6, 20e6);
  EXPECT_FALSE(found.by_node);
}

TEST(SlowWire, FindsTheWireBetweenTwoNodes) {
  auto rates = Everywhere(8, 500);
  for (const int from : {2, 3}) {
    for (const int to : {6, 7}) rates[from][to] = 60;
  }
  const WireRates found = Rates(rates, {0, 0, 1, 1, 2, 2, 3, 3});
  ASSERT_EQ(found.slow.size(), 1u) << SeedText();
  EXPECT_TRUE(found.by_node);
  EXPECT_EQ(found.slow[0].from + found.slow[0].to, 1 + 3);
  EXPECT_EQ(std::abs(found.slow[0].from - found.slow[0].to), 2);
}

// Whoever exchanges with rank 2 waits as long as it does, and all of its waits follow its bytes.
TEST(SlowWire, FindsTheRankWhosePortIsSlow) {
  const WireRates found = Rates(Everywhere(4, 1000), {0, 1, 2, 3}, {1000, 1000, 100, 1000});
  ASSERT_EQ(found.slow.size(), 1u) << SeedText();
  EXPECT_EQ(found.slow[0].from, 2);
  EXPECT_EQ(found.slow[0].to, -1);
  EXPECT_NEAR(found.slow[0].rate, 100e6, 10e6);
}

TEST(SlowWire, EqualWiresAreNotSlow) {
  EXPECT_TRUE(Rates(Everywhere(4, 300), {0, 0, 0, 0}).slow.empty()) << SeedText();
  EXPECT_TRUE(Rates(Everywhere(4, 1000), {0, 1, 2, 3}, {100, 100, 100, 100}).slow.empty()) << SeedText();
}

}  // namespace
}  // namespace unipool
