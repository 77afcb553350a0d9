// The words of a rank that has waited too long, and of the labels in them (exchange_label.h).
#include "runtime/watchdog.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

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
