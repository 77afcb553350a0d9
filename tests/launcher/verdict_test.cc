#include "launcher/traffic_report/verdict.h"

#include <gmock/gmock.h>

#include "launcher/traffic_report/report_text.h"
#include "launcher/traffic_report/traffic_report.h"
#include "runtime/errors.h"
#include "tests/fresh_seed.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A planted cause must be the first of the report.
class TrafficVerdictTest : public ::testing::Test {
 protected:
  static Planted Plan() { return {.layers = 6, .steps = 4, .seed = static_cast<uint32_t>(FreshSeed())}; }
  TrafficReport Report(const Planted& planted, const ReportOptions& options = {}) {
    AddPlanted(run_, planted);
    run_.Write();
    return MakeTrafficReport(run_.path(), options);
  }
  ExampleRun run_{4, "verdict"};
};

TEST_F(TrafficVerdictTest, NamesASlowRank) {
  Planted plan = Plan();
  plan.compute_us[2] = 300;
  const TrafficReport report = Report(plan);
  EXPECT_EQ(report.verdict.kind, "skew-dominated") << report.verdict.reason << SeedText();
  ASSERT_FALSE(report.verdict.causes.empty());
  const WaitCause& cause = report.verdict.causes[0];
  EXPECT_THAT(cause.what, AllOf(HasSubstr("others wait for rank 2"), HasSubstr("as long as the others on")));
  EXPECT_THAT(cause.change, HasSubstr("check_nodes"));
  // Three ranks of four wait 200 us in each of 12 exchanges.
  EXPECT_NEAR(cause.ns, 0.75 * 12 * 200'000, 200'000);
  EXPECT_THAT(ReportText(report), HasSubstr("Verdict: skew-dominated"));
}

// Two ranks are slow alike: either comes last in half of the exchanges.
TEST_F(TrafficVerdictTest, NamesTwoSlowRanks) {
  Planted plan = Plan();
  plan.steps = 20;
  plan.compute_us[1] = plan.compute_us[3] = 300;
  const TrafficReport report = Report(plan);
  EXPECT_EQ(report.verdict.kind, "skew-dominated") << report.verdict.reason << SeedText();
  std::string both;
  for (const WaitCause& cause : report.verdict.causes) both += cause.what;
  EXPECT_THAT(both, AllOf(HasSubstr("others wait for rank 1"), HasSubstr("others wait for rank 3")))
      << SeedText();
}

// The experts of rank 1 get six times the rows in layer 3, and it computes longer because of it.
TEST_F(TrafficVerdictTest, NamesAHotExpert) {
  Planted plan = Plan();
  plan.rows[1] = 6;
  plan.hot_layer = 3;
  plan.compute_us[1] = 250;
  const TrafficReport report = Report(plan);
  ASSERT_FALSE(report.verdict.causes.empty());
  const WaitCause& cause = report.verdict.causes[0];
  EXPECT_THAT(cause.what, AllOf(HasSubstr("others wait for rank 1"), HasSubstr("the rows of the others"),
                                HasSubstr("most in layer 3")))
      << SeedText();
  EXPECT_THAT(cause.change, HasSubstr("parallel.replace_every"));
  EXPECT_THAT(cause.what, Not(HasSubstr("expert "))) << "records alone do not tell which";
}

// Windows tell which expert it is. Rank 1 owns experts 2 and 3.
TEST_F(TrafficVerdictTest, NamesTheExpertItself) {
  Planted plan = Plan();
  plan.rows[1] = 6;
  plan.hot_layer = 3;
  plan.compute_us[1] = 250;
  run_.expert_rows_ = nlohmann::json::parse(R"({"owner": [0, 0, 1, 1, 2, 2, 3, 3], "layers": [
      {"layer": 2, "choosable": 8, "rows": 80, "most": [[0, 10], [1, 10], [2, 10], [3, 10], [4, 10], [5, 10], [6, 10],
                                                        [7, 10]]},
      {"layer": 3, "choosable": 8, "rows": 80, "most": [[3, 66], [0, 14]]}]})");
  const TrafficReport report = Report(plan);
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what,
              AllOf(HasSubstr("others wait for rank 1"),
                    HasSubstr("its expert 3 alone gets 48 % of all rows, 3.8 x the mean of experts, most in "
                              "layer 3 (6.6 x)")))
      << SeedText();
  const std::string text = ReportText(report);
  EXPECT_THAT(text, AllOf(HasSubstr("Experts with the most rows, steps 0 to 3"),
                          HasSubstr("8 experts share 40.0 rows")));
  // A filter shows one layer, and the verdict stays that of all.
  const TrafficReport one =
      MakeTrafficReport(run_.path(), {.steps = {}, .filter = {.layer = 2, .lane = -1, .operation = ""}});
  EXPECT_EQ(one.verdict.causes[0].what, report.verdict.causes[0].what);
  EXPECT_THAT(ReportText(one), HasSubstr("8 experts share 20.0 rows a step of 1 layer"));
}

TEST_F(TrafficVerdictTest, NamesASlowWire) {
  Planted plan = Plan();
  plan.megabytes_per_second.assign(4, std::vector<double>(4, 1000));
  for (const int to : {0, 1, 3}) plan.megabytes_per_second[2][to] = 100;
  plan.buffered = true;
  run_.nodes_ = {0, 1, 2, 3};
  const TrafficReport report = Report(plan);
  EXPECT_EQ(report.verdict.kind, "transfer-dominated") << report.verdict.reason << SeedText();
  ASSERT_FALSE(report.verdict.causes.empty());
  EXPECT_THAT(report.verdict.causes[0].what, StartsWith("a slow wire: what node 2 sends comes at "));
}

TEST_F(TrafficVerdictTest, LevelRanksAndWiresHaveNoCulprit) {
  const TrafficReport report = Report(Plan());
  for (const WaitCause& cause : report.verdict.causes) {
    EXPECT_THAT(cause.what, Not(HasSubstr("a slow wire"))) << SeedText();
    EXPECT_THAT(cause.what, Not(HasSubstr("others wait for rank"))) << SeedText();
  }
}

TEST_F(TrafficVerdictTest, IsInconclusiveWithoutACommonClock) {
  for (const int rank : {2, 3}) run_.clocks_[rank] = {.boot_id = "b1", .drift = 0, .offset = 1'000'000'000};
  const TrafficReport report = Report(Plan());
  EXPECT_EQ(report.verdict.kind, "inconclusive");
  EXPECT_THAT(ReportText(report), HasSubstr("never compared"));
  EXPECT_FALSE(IsKnown(report.what_if.measured));
}

TEST_F(TrafficVerdictTest, IsInconclusiveWhereClocksLeaveItOpen) {
  for (const int rank : {2, 3}) run_.clocks_[rank] = {.boot_id = "b1", .drift = 0, .offset = 1'000'000'000};
  Planted plan = Plan();
  plan.compute_us[2] = 180;
  run_.Compare(2, 0, 50'000'000);  // to 50 ms
  const TrafficReport report = Report(plan);
  EXPECT_EQ(report.verdict.kind, "inconclusive");
  EXPECT_THAT(report.verdict.reason, HasSubstr("clocks leave open"));
}

// Clocks of two hosts are seconds apart and drift: the report is the same within what they leave open.
TEST_F(TrafficVerdictTest, DoesNotDependOnClocks) {
  Planted plan = Plan();
  plan.compute_us[2] = 400;
  const TrafficReport expected = Report(plan);
  ExampleRun far(4, "verdict_far");
  for (const int rank : {2, 3})
    far.clocks_[rank] = {.boot_id = "b1", .drift = 50e-6, .offset = -3'000'000'000};
  far.Compare(2, 0, 2000, 900);
  far.Compare(2, 60'000'000, 2000, -700);
  AddPlanted(far, plan);
  far.Write();
  const TrafficReport report = MakeTrafficReport(far.path(), {});
  EXPECT_EQ(report.verdict.kind, expected.verdict.kind) << report.verdict.reason << SeedText();
  ASSERT_EQ(report.verdict.causes.size(), expected.verdict.causes.size());
  EXPECT_GT(report.figures.idle_uncertainty, 0);
  for (size_t i = 0; i < report.verdict.causes.size(); ++i) {
    EXPECT_NEAR(report.verdict.causes[i].ns, expected.verdict.causes[i].ns,
                report.figures.idle_uncertainty + 0.01 * expected.verdict.causes[i].ns)
        << SeedText();
  }
  EXPECT_THAT(report.verdict.causes.at(0).what, HasSubstr("others wait for rank 2"));
}

// The verdict is that of all exchanges, and says so.
TEST_F(TrafficVerdictTest, AFilterLeavesItAsItIs) {
  Planted plan = Plan();
  plan.compute_us[2] = 300;
  const TrafficReport all = Report(plan);
  const TrafficReport some =
      MakeTrafficReport(run_.path(), {.steps = {}, .filter = {.layer = 1, .lane = -1, .operation = ""}});
  EXPECT_EQ(some.verdict.reason, all.verdict.reason);
  EXPECT_DOUBLE_EQ(some.figures.MeanCompute(), all.figures.MeanCompute());
  EXPECT_THAT(ReportText(some),
              AllOf(HasSubstr("Verdict on all exchanges: "), HasSubstr("waits for other exchanges")));
}

TEST_F(TrafficVerdictTest, RefusesAFilterThatTakesNothing) {
  AddPlanted(run_, Plan());
  run_.Write();
  const auto problem_of = [&](const ExchangeFilter& filter) -> std::string {
    try {
      MakeTrafficReport(run_.path(), {.steps = {}, .filter = filter});
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(problem_of({.layer = -1, .lane = -1, .operation = "dispach"}),
              HasSubstr("\"dispatch backward\""));
  EXPECT_THAT(problem_of({.layer = 77, .lane = -1, .operation = ""}), HasSubstr("--layer"));
}

}  // namespace
}  // namespace unipool
