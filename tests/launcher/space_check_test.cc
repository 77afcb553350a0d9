#include "launcher/checkpoints/space_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/errors.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TrainConfig Settings(int64_t save_every, int keep, double save_minutes = 0) {
  TrainConfig train;
  train.set_steps(100);
  train.set_save_every(save_every);
  train.set_keep_checkpoints(keep);
  train.set_save_minutes(save_minutes);
  return train;
}

TEST(SpaceCheck, CountsWhatStandsAtOnce) {
  EXPECT_EQ(CheckpointsToAdd(Settings(10, 2), 0, 0), 3);
  EXPECT_EQ(CheckpointsToAdd(Settings(10, 2), 50, 2), 1);  // replaces an older one
  EXPECT_EQ(CheckpointsToAdd(Settings(10, 2), 50, 7), 1);
  EXPECT_EQ(CheckpointsToAdd(Settings(0, 2), 0, 0), 1);  // the last alone
  EXPECT_EQ(CheckpointsToAdd(Settings(0, 2, 30), 0, 0), 3);
  EXPECT_EQ(CheckpointsToAdd(Settings(60, 5), 0, 0), 2);
  EXPECT_EQ(CheckpointsToAdd(Settings(10, 0), 45, 4), 6);
  EXPECT_EQ(CheckpointsToAdd(Settings(10, 0), 100, 10), 0);
}

TEST(SpaceCheck, SaysNeedAndHave) {
  EXPECT_EQ(SpaceWarning("run", 1000, 3, 3000), "");
  EXPECT_EQ(SpaceWarning("run", 1000, 3, -1), "");  // the system does not say
  EXPECT_EQ(SpaceWarning("run", 1000, 0, 0), "");   // nothing is written
  EXPECT_THAT(SpaceWarning("run", 1000, 3, 2999), AllOf(HasSubstr("run_dir run: its disk has 3.0 KB free"),
                                                        HasSubstr("3 checkpoints of 1.0 KB, 3.0 KB")));
  EXPECT_THAT(SpaceWarning("run", int64_t{1} << 60, 1 << 20, int64_t{1} << 61), HasSubstr("will be added"));
  try {
    SpaceWarning("run", 1000, 1, 999);
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.exit_code(), kNotSavedExitCode);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("a checkpoint takes 1.0 KB"), HasSubstr("has 999 B free")));
  }
}

TEST(SpaceCheck, AsksTheSystem) {
  EXPECT_GT(FreeBytes("/tmp"), 0);
  EXPECT_EQ(FreeBytes("/no/such/folder"), -1);
}

}  // namespace
}  // namespace unipool
