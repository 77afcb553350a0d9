// Whose step counts where ranks take different times.
#include "launcher/plan/slowest_rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using testing::HasSubstr;

constexpr double kSecond = 1e9;  // ns

// Two ranks: in step 3 they take 2 and 5 seconds, in the windows 1 and 1.1, then 3 and 3.5.
RecordedRun TwoRanks() {
  RecordedRun run;
  for (int rank = 0; rank < 2; ++rank) {
    TrafficFile file;
    file.header.rank = rank;
    const auto end = static_cast<int64_t>((rank == 0 ? 12 : 15) * kSecond);
    file.steps.push_back({.step = 3, .begin_ns = static_cast<int64_t>(10 * kSecond), .end_ns = end});
    run.files.push_back(file);
  }
  for (const auto& [first, second] : {std::pair(1.0, 1.1), {3.0, 3.5}}) {
    RecordedWindow window;
    for (const double seconds : {first, second})
      window.ranks.push_back({.step_ns = static_cast<int64_t>(seconds * kSecond)});
    run.windows.push_back(window);
  }
  return run;
}

TEST(SlowestRank, ARecordedStepOfAnEmulatedClusterIsExact) {
  const RecordedRun run = TwoRanks();
  const SlowestStep step =
      SlowestStepOf({.first_rank_seconds = 2.5, .ranks = 2, .is_emulated = true, .step = 3}, &run);
  EXPECT_DOUBLE_EQ(step.seconds, 5);
  EXPECT_EQ(step.source, "the slowest rank (1) of recorded step 3");
}

TEST(SlowestRank, ElseWindowsScaleTheMedianOfRank0) {
  const RecordedRun run = TwoRanks();
  for (const StepOfRun& asked :
       {StepOfRun{.first_rank_seconds = 2, .ranks = 2, .step = 3},            // one real step is noise
        StepOfRun{.first_rank_seconds = 2, .ranks = 2, .is_emulated = true},  // none was recorded
        StepOfRun{.first_rank_seconds = 2, .ranks = 2, .is_emulated = true, .step = 4}}) {
    const SlowestStep step = SlowestStepOf(asked, &run);
    EXPECT_DOUBLE_EQ(step.seconds, 2 * 4.6 / 4);
    EXPECT_THAT(step.source, HasSubstr("the slowest rank, 1.150 times rank 0"));
  }
}

TEST(SlowestRank, WhereRanksAreMissingItIsRank0) {
  RecordedRun run = TwoRanks();
  const StepOfRun asked{.first_rank_seconds = 2, .ranks = 2, .is_emulated = true, .step = 3};
  run.files.pop_back();
  EXPECT_DOUBLE_EQ(SlowestStepOf(asked, &run).seconds, 2 * 4.6 / 4) << "of windows";
  run.windows[1].ranks[1].step_ns = -1;
  EXPECT_DOUBLE_EQ(SlowestStepOf(asked, &run).seconds, 2);
  EXPECT_THAT(SlowestStepOf(asked, &run).source, HasSubstr("rank 0; nothing tells of the others"));
  EXPECT_DOUBLE_EQ(SlowestStepOf(asked, nullptr).seconds, 2);
  EXPECT_EQ(SlowestStepOf({.first_rank_seconds = 2}, nullptr).source, "the only rank");
}

}  // namespace
}  // namespace unipool
