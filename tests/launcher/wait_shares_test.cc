#include "launcher/traffic_report/wait_shares.h"

#include <gmock/gmock.h>

#include "launcher/traffic_report/report_text.h"
#include "launcher/traffic_report/traffic_report.h"
#include "tests/fresh_seed.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

class WaitSharesTest : public ::testing::Test {
 protected:
  static Planted Plan() { return {.layers = 6, .steps = 4, .seed = static_cast<uint32_t>(FreshSeed())}; }

  // A node a rank; rank 2 looks for what came so long after it did.
  Planted HeldOnItsNode(double held_us) {
    Planted plan = Plan();
    plan.held_us = {0, 0, held_us, 0};
    plan.sees_arrivals = plan.buffered = true;
    run_.nodes_ = {0, 1, 2, 3};
    return plan;
  }

  TrafficReport Report(const Planted& planted) {
    AddPlanted(run_, planted);
    run_.Write();
    return MakeTrafficReport(run_.path(), {});
  }

  static WaitShares SharesOf(const TrafficReport& report) {
    return ShareWaits({.manifest = &report.run.manifest,
                       .figures = &report.figures,
                       .traffic = &report.traffic,
                       .evidence = &report.evidence});
  }

  static double SumOf(const WaitShares& shares) {
    return shares.Late() + shares.Core() + shares.Wire() + shares.copies + shares.stalled + shares.drain +
           shares.uneven;
  }

  ExampleRun run_{4, "shares"};
};

// Whatever is planted: nothing is counted twice, and nothing is lost.
TEST_F(WaitSharesTest, AddUpToTheWaits) {
  Planted plan = Plan();
  plan.compute_us = {100, 240, 100, 130};
  plan.held_us = {0, 10, 900, 0};
  plan.rows = {1, 2, 1, 1};
  plan.hot_layer = 2;
  run_.nodes_ = {0, 0, 1, 1};
  run_.cpu_share_ = {0.9, 0.4, 0.8, 0.9};
  run_.queued_share_ = {0, 0.5, 0, 0};
  const TrafficReport report = Report(plan);
  const WaitFigures waits = report.figures.MeanWaits();
  EXPECT_NEAR(SumOf(SharesOf(report)), waits.Idle() + waits.exposed, 1e-6 * waits.blocked) << SeedText();
  double causes = 0;
  for (const WaitCause& cause : report.verdict.causes) causes += cause.ns;
  EXPECT_LE(causes, waits.blocked * 1.000001) << SeedText();
}

// Held up in its waits, where no wire is: the others wait for it, and are not at fault.
TEST_F(WaitSharesTest, OnOneHostNothingIsAWire) {
  Planted plan = Plan();
  plan.held_us = {0, 0, 3000, 0};
  const TrafficReport report = Report(plan);
  const WaitShares shares = SharesOf(report);
  EXPECT_EQ(shares.Wire(), 0);
  EXPECT_GT(shares.Core(), 0.8 * report.figures.MeanWaits().blocked) << SeedText();
  EXPECT_EQ(report.verdict.kind, "core-dominated");
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what, HasSubstr("rank 2 goes without a core"));
  for (const WaitCause& cause : report.verdict.causes)
    EXPECT_THAT(report.verdict.reason + cause.what + cause.change, Not(HasSubstr("wire")));
  EXPECT_THAT(ReportText(report), Not(AnyOf(HasSubstr("wire's time"), HasSubstr("a wire that"))));
  EXPECT_FALSE(IsKnown(report.what_if.free_wire));
}

// Its own computing takes longer, because others had its core for half of the time.
TEST_F(WaitSharesTest, TellsASharedCoreFromASlowProcessor) {
  Planted plan = Plan();
  plan.compute_us[1] = 1000;
  run_.cpu_share_ = {0.99, 0.1, 0.99, 0.99};
  run_.queued_share_ = {0, 0.88, 0, 0};
  const TrafficReport report = Report(plan);
  EXPECT_EQ(report.verdict.kind, "core-dominated") << report.verdict.reason << SeedText();
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what,
              AllOf(HasSubstr("rank 1 goes without a core"), HasSubstr("pushed off it 9 times")));
  EXPECT_THAT(report.verdict.causes[0].change, HasSubstr("run on its core"));
}

// Two ranks without cores take turns at being late: in all, none computes longer.
TEST_F(WaitSharesTest, RanksThatTakeTurnsForWantOfACore) {
  Planted plan = Plan();
  plan.layers = 1;
  plan.steps = 1;
  plan.compute_us = {900, 100, 100, 100};
  AddPlanted(run_, plan);
  plan.compute_us = {100, 900, 100, 100};
  plan.first_begin_ns = 100'000'000;
  AddPlanted(run_, plan, 1);
  run_.cpu_share_ = {0.1, 0.1, 0.1, 0.1};
  run_.queued_share_ = {0.9, 0.9, 0.9, 0.9};
  run_.Write();
  const TrafficReport report = MakeTrafficReport(run_.path(), {});
  EXPECT_EQ(report.verdict.kind, "core-dominated") << report.verdict.reason << SeedText();
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what, HasSubstr("have no core"));
}

TEST_F(WaitSharesTest, TellsAStoppedRank) {
  Planted plan = Plan();
  plan.compute_us[1] = 1000;
  run_.cpu_share_ = {0.99, 0.1, 0.99, 0.99};
  run_.queued_share_ = {0, 0.01, 0, 0};
  const TrafficReport report = Report(plan);
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what, HasSubstr("rank 1 goes without a core")) << SeedText();
  EXPECT_THAT(report.verdict.causes[0].change, HasSubstr("it was stopped"));
}

TEST_F(WaitSharesTest, TellsTwoStoppedRanks) {
  Planted plan = Plan();
  plan.steps = 20;
  plan.compute_us[1] = plan.compute_us[3] = 1000;
  run_.cpu_share_ = {0.99, 0.1, 0.99, 0.1};
  run_.queued_share_ = {0, 0.01, 0, 0.01};
  const TrafficReport report = Report(plan);
  std::string all;
  for (const WaitCause& cause : report.verdict.causes) all += cause.what + cause.change;
  EXPECT_THAT(all, AllOf(HasSubstr("rank 1 goes without a core"), HasSubstr("rank 3 goes without a core"),
                         HasSubstr("it was stopped")))
      << SeedText();
}

// What comes late to a rank that does not look seems to come on a slow wire.
TEST_F(WaitSharesTest, ALackOfCoresLooksLikeASlowWire) {
  const Planted plan = HeldOnItsNode(3000);
  run_.cpu_share_ = {0.99, 0.99, 0.05, 0.99};
  run_.queued_share_ = {0, 0, 0.01, 0};
  const TrafficReport report = Report(plan);
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what, HasSubstr("rank 2 (node 2) goes without a core")) << SeedText();
  ASSERT_GE(report.verdict.causes.size(), 2U) << SeedText();
  EXPECT_THAT(report.verdict.causes[1].what, AllOf(HasSubstr("a slow wire: what goes to node 2"),
                                                   HasSubstr("ranks of node 2 had no core for 95 %")));
}

// No wire is slow, and whose bytes come last is not at fault: many rows are.
TEST_F(WaitSharesTest, OnLevelWiresHotRowsAreTold) {
  Planted plan = HeldOnItsNode(0);
  plan.rows = {4, 1, 1, 1};
  plan.hot_layer = 2;
  plan.layers = 3;
  plan.megabytes_per_second.assign(4, std::vector<double>(4, 20));
  const TrafficReport report = Report(plan);
  std::string all;
  for (const WaitCause& cause : report.verdict.causes) all += cause.what;
  EXPECT_THAT(all, AllOf(HasSubstr("rank 0 (node 0) receives"), Not(HasSubstr("a slow wire")))) << SeedText();
}

// Its bytes come late since it was stopped while it waited. Nobody else had its core, as on the others.
TEST_F(WaitSharesTest, AStopIsNoLateWire) {
  const Planted plan = HeldOnItsNode(1000);
  run_.cpu_share_ = {0.2, 0.2, 0.2, 0.2};
  run_.queued_share_ = {0.8, 0.8, 0.1, 0.8};
  const TrafficReport report = Report(plan);
  ASSERT_FALSE(report.verdict.causes.empty());
  const auto is_named = [](const WaitCause& cause) { return cause.what.find("rank 2 (node 2) goes") == 0; };
  EXPECT_TRUE(std::any_of(report.verdict.causes.begin(), report.verdict.causes.end(), is_named))
      << SeedText();
}

// The same times on ranks that had their cores throughout.
TEST_F(WaitSharesTest, ASlowProcessorHasItsCore) {
  Planted plan = Plan();
  plan.compute_us[1] = 1000;
  run_.cpu_share_ = {0.99, 0.99, 0.99, 0.99};
  run_.queued_share_ = {0, 0, 0, 0};
  const TrafficReport report = Report(plan);
  EXPECT_EQ(report.verdict.kind, "skew-dominated") << SeedText();
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what, HasSubstr("others wait for rank 1"));
}

// More rows, and stopped as well: both have a cause of their own.
TEST_F(WaitSharesTest, NamesRowsAndTheLackOfACore) {
  Planted plan = Plan();
  plan.rows[2] = 8;
  plan.hot_layer = 3;
  plan.compute_us[2] = 400;
  plan.held_us = {0, 0, 500, 0};
  const TrafficReport report = Report(plan);
  ASSERT_GE(report.verdict.causes.size(), 2U) << SeedText();
  const std::string both = report.verdict.causes[0].what + report.verdict.causes[1].what;
  EXPECT_THAT(both, AllOf(HasSubstr("rank 2 goes without a core"), HasSubstr("others wait for rank 2"),
                          HasSubstr("the rows of the others")));
}

// Stage 0 has no work in a slot, and waits there for stage 1, so many milliseconds.
ExampleExchange SlotWithoutWork(int64_t milliseconds) {
  const int64_t begin = 1'000'000, end = begin + 1'000'000 * milliseconds;
  ExampleExchange exchange{.operation = "counts", .lane = 0, .layer = -1};
  exchange.bytes.assign(4, std::vector<int64_t>(4, 80));
  const ExampleCall waits{.start = begin, .wait_enter = begin, .wait_leave = end};
  const ExampleCall comes{.start = end, .wait_enter = end, .wait_leave = end};
  exchange.calls = {waits, waits, comes, comes};
  return exchange;
}

TEST_F(WaitSharesTest, FindsTheFillOfAPipeline) {
  run_.stages_ = 2;
  run_.AddStep(0, 0, 10'000'000, {SlotWithoutWork(3)});
  run_.Write();
  const TrafficReport report = MakeTrafficReport(run_.path(), {});
  EXPECT_NEAR(SharesOf(report).drain, 1.5e6, 1e4);
  EXPECT_EQ(SharesOf(report).uneven, 0);
  EXPECT_EQ(report.verdict.kind, "drain-dominated");
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what,
              AllOf(HasSubstr("bubble"), HasSubstr("4 microbatches leave it none in 20 %")));
  EXPECT_THAT(report.verdict.causes[0].change, HasSubstr("more microbatches"));
}

// More than a pipeline of equal stages would wait: 2 of 10 ms.
TEST_F(WaitSharesTest, FindsStagesOfUnequalWork) {
  run_.stages_ = 2;
  run_.AddStep(0, 0, 10'000'000, {SlotWithoutWork(8)});
  run_.Write();
  const TrafficReport report = MakeTrafficReport(run_.path(), {});
  EXPECT_NEAR(SharesOf(report).drain, 2e6, 1e4);
  EXPECT_NEAR(SharesOf(report).uneven, 2e6, 1e4);
  std::string all;
  for (const WaitCause& cause : report.verdict.causes) all += cause.what + cause.change;
  EXPECT_THAT(all, AllOf(HasSubstr("a rank of stage 1 computes 10.0 ms of a step, one of stage 0 2.00 ms"),
                         HasSubstr("parallel.layers_per_stage")));
}

}  // namespace
}  // namespace unipool
