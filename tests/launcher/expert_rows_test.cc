#include "launcher/traffic_report/expert_rows.h"

#include <gmock/gmock.h>

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Four experts on two ranks; expert 2 has a copy on rank 0.
RecordedWindow Window(int64_t first, int64_t steps, std::vector<WindowExpertRows> rows) {
  RecordedWindow window;
  window.first_step = first;
  window.last_step = first + steps - 1;
  window.steps = steps;
  window.expert_rows = std::move(rows);
  window.expert_owner = {0, 0, 1, 1};
  window.shadows = {{2, 0}};
  return window;
}

RecordedRun RunOfTwoRanks() {
  RecordedRun run;
  run.manifest.pool = 2;
  run.windows = {Window(0, 2, {{0, 4, 100, {{0, 100}}}, {1, 4, 100, {{0, 100}}}}),
                 Window(2, 4, {{0, 4, 40, {{1, 20}, {3, 20}}}, {1, 2, 120, {{2, 80}, {3, 40}}}}),
                 Window(6, 1, {{0, 4, 9, {{0, 9}}}, {1, 4, 9, {{0, 9}}}})};
  return run;
}

TEST(ExpertRows, AreThoseOfAStepOfTheWindowsAskedFor) {
  const ExpertRows rows = ExpertRowsOf(RunOfTwoRanks(), 3, 4);
  EXPECT_EQ(rows.first, 2);
  EXPECT_EQ(rows.last, 5);
  EXPECT_EQ(rows.num_steps, 4);
  EXPECT_THAT(rows.layers, ElementsAre(0, 1));
  EXPECT_THAT(rows.sums, ElementsAre(10, 30));
  EXPECT_THAT(rows.rows,
              ElementsAre(ElementsAre(0, 0), ElementsAre(5, 0), ElementsAre(0, 20), ElementsAre(5, 10)));
  EXPECT_THAT(rows.Ordered(), ElementsAre(2, 3, 1, 0));
  EXPECT_DOUBLE_EQ(rows.Sum(), 40);
  EXPECT_DOUBLE_EQ(rows.RowsOf(3), 15);
  EXPECT_DOUBLE_EQ(rows.Share(3), 15.0 / 40);
  EXPECT_DOUBLE_EQ(rows.Ratio(3), 1.5) << "a mean expert has 10";
  EXPECT_DOUBLE_EQ(rows.Ratio(1, 0), 2) << "of four experts";
  EXPECT_DOUBLE_EQ(rows.Ratio(2, 1), 4.0 / 3) << "of the two that the layer may choose";
  EXPECT_EQ(rows.MostIn(3), 1U);
  EXPECT_EQ(rows.NumUnused(), 1);
  EXPECT_TRUE(rows.is_whole);
}

TEST(ExpertRows, TakeAllWindowsWhereNoneHoldsTheSteps) {
  const ExpertRows rows = ExpertRowsOf(RunOfTwoRanks(), 100, 200);
  EXPECT_EQ(rows.num_steps, 7);
  EXPECT_NEAR(rows.Sum() * 7, 378, 1e-9);
  EXPECT_NEAR(rows.RowsOf(0) * 7, 218, 1e-9);
}

TEST(ExpertRows, TakeOneLayer) {
  const ExpertRows rows = ExpertRowsOf(RunOfTwoRanks(), 2, 5, 1);
  EXPECT_THAT(rows.layers, ElementsAre(1));
  EXPECT_DOUBLE_EQ(rows.Sum(), 30);
  EXPECT_THAT(rows.Ordered(), ElementsAre(2, 3, 0, 1));
}

TEST(ExpertRows, KnowWhatTheListsLeaveOut) {
  RecordedRun run = RunOfTwoRanks();
  run.windows[1].expert_rows[0].rows = 41;
  const ExpertRows rows = ExpertRowsOf(run, 2, 5);
  EXPECT_FALSE(rows.is_whole);
  EXPECT_DOUBLE_EQ(rows.sums[0], 41.0 / 4);
}

// Numbers of experts mean others after a pool was shrunk.
TEST(ExpertRows, LeaveOutAnotherPool) {
  RecordedRun run = RunOfTwoRanks();
  run.windows[0].expert_owner = {0, 0, 0, 1, 1, 1};
  EXPECT_EQ(ExpertRowsOf(run, 0, INT64_MAX).num_steps, 5);
}

TEST(ExpertRows, OlderRunsHaveNone) {
  RecordedRun run = RunOfTwoRanks();
  for (RecordedWindow& window : run.windows) window.expert_rows.clear();
  const ExpertRows rows = ExpertRowsOf(run, 0, INT64_MAX);
  EXPECT_EQ(rows.num_steps, 0);
  EXPECT_EQ(HotExpertsText(rows, 0), "");
}

TEST(HotExpertsText, NamesThoseThatLiveOnTheRank) {
  const ExpertRows rows = ExpertRowsOf(RunOfTwoRanks(), 2, 5);
  EXPECT_EQ(rows.RanksText(2), "1, copies on 0");
  EXPECT_EQ(rows.RanksText(3), "1");
  const std::string of_one = HotExpertsText(rows, 1);
  EXPECT_THAT(
      of_one,
      HasSubstr(
          "; its expert 2 alone gets 50 % of all rows, 2.0 x the mean of experts, most in layer 1 (1.3 x)"));
  EXPECT_THAT(of_one, HasSubstr("; then 3 (1.5 x)"));
  EXPECT_THAT(HotExpertsText(rows, 0), AllOf(HasSubstr("expert 2"), Not(HasSubstr("3 (1.5 x)")))) << "a copy";
  // Rank 3 is the same of a second pool.
  EXPECT_EQ(HotExpertsText(rows, 3), of_one);
}

TEST(HotExpertsText, SaysNothingOfLevelExperts) {
  RecordedRun run;
  run.windows = {Window(0, 1, {{0, 4, 40, {{0, 13}, {1, 9}, {2, 9}, {3, 9}}}})};
  EXPECT_EQ(HotExpertsText(ExpertRowsOf(run, 0, 0), 0), "");
}

}  // namespace
}  // namespace unipool
