// One look at a run: as it runs, when it has ended, when it was killed.
#include "launcher/reports/watch_frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class WatchFrameTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing::TempDir() + "watch_frame_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::ofstream(folder_ + "/config.txtpb") << "";
    state_.end.step = 10;
    state_.target_steps = 40;
    state_.ranks = 4;
    state_.hosts = {"node1", "node2"};
    state_.started = 1000;
    state_.updated = 1100;
    state_.saved_step = 10;
  }
  void TearDown() override { fs::remove_all(folder_); }
  void WriteSteps(int count) {
    std::ofstream file(folder_ + "/metrics.jsonl");
    for (int step = 1; step <= count; ++step)
      file << "{\"step\":" << step << ",\"loss\":" << 5.0 / step
           << ",\"step_seconds\":2,\"tokens_per_second\":12345,"
           << "\"grad_norm\":0.5,\"lr\":3e-4,\"pool_loss_over_balance\":1.25,\"max_violation\":null}\n";
  }
  std::string Frame(double now, int columns = 80, int rows = 24) {
    const RunRecord record(folder_);
    return WatchFrame({.record = record,
                       .state = state_,
                       .heartbeat = HeartbeatView{.step = 20, .time = now - 1},
                       .is_gone = gone_},
                      now, {.columns = columns, .rows = rows});
  }
  std::string folder_;
  RunState state_;
  bool gone_ = false;
};

TEST_F(WatchFrameTest, ARunThatRuns) {
  WriteSteps(20);
  const std::string frame = Frame(1120, 200);
  EXPECT_THAT(frame, testing::StartsWith(folder_ + "  running  step 20/40  ETA 40s\n[####"));
  EXPECT_THAT(frame,
              HasSubstr("\nloss 0.2500  12.3K tokens/s  grad norm 0.500  lr 3.00e-04\npool loss 1.250\n"));
  EXPECT_THAT(frame,
              HasSubstr("\n4 ranks on node1 and 1 more  started 2m00s ago  last sign of life 1s ago  saved "
                        "step-10\n"));
  EXPECT_THAT(frame, HasSubstr("****")) << "the curve";
}

TEST_F(WatchFrameTest, TellsStoppedSilentAndKilledRunsApart) {
  WriteSteps(20);
  gone_ = true;
  EXPECT_THAT(Frame(1120, 200), HasSubstr("  killed  step 20/40\n"));
  gone_ = false;
  const RunRecord record(folder_);
  EXPECT_THAT(WatchFrame({.record = record, .state = state_}, 5000, {.columns = 200}),
              HasSubstr("  silent  step"));
  state_.end = {.status = "stopped", .reason = "stopped by SIGTERM\nat step 20", .exit_code = 75, .step = 20};
  EXPECT_THAT(Frame(5000, 200),
              AllOf(HasSubstr("  stopped  step 20/40\n"), HasSubstr("\nstopped by SIGTERM at step 20\n")));
  EXPECT_THAT(WatchFrame({.record = record}, 5000, {.columns = 200}),
              HasSubstr("  no state.json  step 20\n"));
}

TEST_F(WatchFrameTest, ARunThatHasJustBegun) {
  EXPECT_THAT(Frame(1001, 200),
              AllOf(HasSubstr("  running  step 10/40\n"), HasSubstr("no step is done yet")));
}

TEST_F(WatchFrameTest, FitsTheTerminal) {
  WriteSteps(20);
  for (int columns : {40, 80, 200}) {
    for (int rows : {5, 24, 60}) {
      std::istringstream lines(Frame(1120, columns, rows));
      int count = 0;
      for (std::string line; std::getline(lines, line); ++count)
        EXPECT_LT(static_cast<int>(line.size()), columns);
      EXPECT_LT(count, std::max(rows, 6));
    }
  }
  EXPECT_THAT(Frame(1120, 80, 8), Not(HasSubstr("***")));
}

}  // namespace
}  // namespace unipool
