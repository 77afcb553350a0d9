#include "launcher/traffic_report/what_if.h"

#include <gtest/gtest.h>

#include "launcher/traffic_report/traffic_report.h"
#include "tests/fresh_seed.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

// Two ranks compute 100 and 140, exchange for 60, compute 10 and 30.
TEST(WhatIf, IsWhatOneWouldComputeByHand) {
  ExampleRun run(2, "what_if");
  run.nodes_ = {0, 1};
  ExampleExchange exchange;
  exchange.calls = {{100, 101, 200}, {140, 141, 200}};
  exchange.bytes = {{0, 80}, {80, 0}};
  run.AddStep(0, 0, 230, {exchange});
  run.Write();
  const TrafficReport report = MakeTrafficReport(run.path(), {});
  EXPECT_EQ(report.what_if.measured, 230);
  EXPECT_EQ(report.what_if.replayed, 230);
  // The last starts at 140, is in Start for 1, and computes 30 more.
  EXPECT_EQ(report.what_if.free_wire, 171);
  // Before the exchange both compute 120, after it 30.
  EXPECT_NEAR(report.what_if.level_ranks, 120 + 60 + 30, 1);
}

// In all they compute equally long, and in each slot one of them computes longer.
TEST(WhatIf, LevelsEachSlot) {
  ExampleRun run(2, "what_if");
  std::vector<ExampleExchange> exchanges(2);
  exchanges[0].calls = {{100, 101, 300}, {300, 301, 301}};
  exchanges[1].calls = {{600, 601, 601}, {401, 402, 600}};
  for (ExampleExchange& exchange : exchanges) exchange.bytes = {{0, 80}, {80, 0}};
  run.AddStep(0, 0, 601, exchanges);
  run.Write();
  const WhatIf what_if = MakeTrafficReport(run.path(), {}).what_if;
  EXPECT_NEAR(what_if.replayed, 601, 3);
  EXPECT_NEAR(what_if.level_ranks, 400, 5);
  EXPECT_FALSE(IsKnown(what_if.free_wire)) << "there is no wire";
}

TEST(WhatIf, ReplaysWhatWasMeasured) {
  ExampleRun run(4, "what_if");
  run.nodes_ = {0, 1, 2, 3};
  Planted plan{.layers = 8, .steps = 2, .seed = static_cast<uint32_t>(FreshSeed())};
  plan.compute_us[3] = 150;
  AddPlanted(run, plan);
  run.Write();
  const WhatIf what_if = MakeTrafficReport(run.path(), {}).what_if;
  EXPECT_NEAR(what_if.replayed / what_if.measured, 1, 1e-3) << SeedText();
  EXPECT_NEAR(what_if.free_wire, 16 * 150'000, 16 * 10'000) << SeedText();
  EXPECT_LT(what_if.level_ranks, what_if.replayed - 16 * 20'000) << SeedText();
  EXPECT_LT(what_if.both, what_if.free_wire);
}

}  // namespace
}  // namespace unipool
