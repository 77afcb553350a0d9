// When a wait was too long. The words of a rank that has waited so, and of the labels in them
// (exchange_label.h).
#include "runtime/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using std::chrono::milliseconds;

TEST(PatientClock, CountsASecondAtMostBetweenTwoLooks) {
  const PatientClock::Clock::time_point begin{};
  PatientClock waited(begin);
  EXPECT_DOUBLE_EQ(waited.Look(begin + milliseconds(300)), 0.3);
  EXPECT_DOUBLE_EQ(waited.Look(begin + std::chrono::hours(5)), 1.3);  // suspended
  EXPECT_DOUBLE_EQ(waited.Look(begin + std::chrono::hours(5) + milliseconds(200)), 1.5);
  EXPECT_DOUBLE_EQ(waited.seconds(), 1.5);
}

TEST(PatientClock, SlicesAreAnEighthOfAShortLimit) {
  EXPECT_EQ(PatientClock::SliceOf(milliseconds(300'000)), milliseconds(1000));
  EXPECT_EQ(PatientClock::SliceOf(milliseconds(0)), milliseconds(1000));
  EXPECT_EQ(PatientClock::SliceOf(milliseconds(2000)), milliseconds(250));
  EXPECT_EQ(PatientClock::SliceOf(milliseconds(3)), milliseconds(1));
  const PatientClock::Clock::time_point begin{};
  PatientClock waited(begin, PatientClock::SliceOf(milliseconds(2000)));
  EXPECT_DOUBLE_EQ(waited.Look(begin + milliseconds(5000)), 0.25);
}

TEST(Patience, EndsAtTheLimitWithoutFileWork) {
  Patience patience(milliseconds(2000));
  const auto nobody = [] { return false; };
  EXPECT_FALSE(patience.IsOver(1.9, nobody));
  EXPECT_TRUE(patience.IsOver(2.0, nobody));
  EXPECT_FALSE(patience.IsOver(0.5, nobody)) << "a new wait";
  EXPECT_TRUE(patience.IsOver(2.1, nobody));
}

TEST(Patience, IsNotAskedBeforeTheLimitAndNeverWithoutOne) {
  int asked = 0;
  const auto count = [&] { return ++asked > 0; };
  Patience patience(milliseconds(2000)), endless(milliseconds(0));
  EXPECT_FALSE(patience.IsOver(1.9, count));
  EXPECT_FALSE(endless.IsOver(1e9, count));
  EXPECT_EQ(asked, 0);
}

TEST(Patience, WaitsForFileWorkAndAWholeLimitAfterIt) {
  Patience patience(milliseconds(2000));
  const auto somebody = [] { return true; };
  const auto nobody = [] { return false; };
  EXPECT_FALSE(patience.IsOver(2.0, somebody));
  EXPECT_FALSE(patience.IsOver(2.1, nobody)) << "not asked before an eighth of the limit has passed";
  EXPECT_FALSE(patience.IsOver(2.25, somebody));
  EXPECT_FALSE(patience.IsOver(2.5, nobody)) << "the work has just ended";
  EXPECT_FALSE(patience.IsOver(4.4, nobody));
  EXPECT_TRUE(patience.IsOver(4.5, nobody));
}

TEST(WatchdogLimits, AllowFileWork) {
  const WatchdogLimits limits{.exchange = milliseconds(10), .files = milliseconds(500)};
  EXPECT_TRUE(limits.AllowsFileWork(milliseconds(499)));
  EXPECT_FALSE(limits.AllowsFileWork(milliseconds(500)));
  EXPECT_TRUE(WatchdogLimits{.files = milliseconds(0)}.AllowsFileWork(std::chrono::hours(1000)));
}

TEST(StuckMessage, NamesTheHostsOfTheSilent) {
  const StuckReport report{.rank = 0,
                           .label = {.operation = "dispatch", .step = 4, .slot = 2},
                           .waited_seconds = 300.04,
                           .missing = {1, 2, 3},
                           .silent = {2, 3},
                           .hosts = {"a", "a", "b", "b"}};
  EXPECT_EQ(
      StuckMessage(report),
      "stuck: rank 0 has waited 300.0 s in 'dispatch', step 4, slot 2 for ranks 1, 2, 3; no sign of life "
      "from ranks 2, 3 (busy, stopped or dead) on b. The job ends.");
  EXPECT_THAT(SuspectsOf(report), testing::ElementsAre("b"));
  EXPECT_EQ(NameHosts({0, 1, 3}, report.hosts), "a, b");
  EXPECT_FALSE(HostName().empty());
}

TEST(Watchdog, NamesOperationStepSlotAndRanks) {
  EXPECT_EQ(Describe({.operation = "dispatch", .step = 4, .slot = 2}), "'dispatch', step 4, slot 2");
  EXPECT_EQ(Describe({.operation = "split", .step = -1, .slot = -1}), "'split'");
  StuckReport report;
  report.rank = 0;
  report.label = {.operation = "dispatch", .step = 4, .slot = 2};
  report.waited_seconds = 300.04;
  report.missing = {1, 2};
  report.silent = {2};
  report.others = {"rank 1 waits in 'dispatch', step 4, slot 2 for rank 2"};
  EXPECT_EQ(StuckMessage(report),
            "stuck: rank 0 has waited 300.0 s in 'dispatch', step 4, slot 2 for ranks 1, 2; no sign of life "
            "from rank 2 "
            "(busy, stopped or dead); rank 1 waits in 'dispatch', step 4, slot 2 for rank 2. The job ends.");
}

TEST(Watchdog, LeavesOutWhatIsNotPartOfAStepOrSlot) {
  const ExchangeLabel label;
  EXPECT_EQ(Describe(label), "'exchange'");
  EXPECT_EQ(Describe({.operation = "loss", .step = 0, .slot = -1}), "'loss', step 0");
  EXPECT_EQ(Describe({.operation = "loss", .step = int64_t{1} << 40, .slot = 0}),
            "'loss', step 1099511627776, slot 0");
}

TEST(Watchdog, NamesOneRankOrMany) {
  EXPECT_EQ(NameRanks({3}), "rank 3");
  EXPECT_EQ(NameRanks({1, 4, 10}), "ranks 1, 4, 10");
}

TEST(Watchdog, BlamesNobodyWhereAllAreAlive) {
  StuckReport report;
  report.rank = 1;
  report.label = {.operation = "combine"};
  report.waited_seconds = 2;
  report.missing = {0};
  report.others = {"rank 0 has left"};
  EXPECT_EQ(StuckMessage(report),
            "stuck: rank 1 has waited 2.0 s in 'combine' for rank 0; rank 0 has left. The job ends.");
}

TEST(Watchdog, PrintsALineInOnePiece) {
  testing::internal::CaptureStderr();
  PrintErrorLine("first");
  PrintErrorLine("second");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "first\nsecond\n");
}

}  // namespace
}  // namespace unipool
