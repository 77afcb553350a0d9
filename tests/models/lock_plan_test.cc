// The timeline of the lock: its boundaries, and what fades between them.
#include "models/lock/lock_plan.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

LockPlan PlanOf(int64_t steps, double end = LockConfig().entropy_end_fraction(),
                double lock = LockConfig().lock_fraction()) {
  Config config;
  config.mutable_train()->set_steps(steps);
  config.mutable_moe()->mutable_lock()->set_assignment(LockConfig::COUNTS);
  config.mutable_moe()->mutable_lock()->set_entropy_end_fraction(end);
  config.mutable_moe()->mutable_lock()->set_lock_fraction(lock);
  return LockPlanOf(config);
}

// The authors' run of 60,000 steps.
TEST(LockPlan, ValuesOfThePublishedRun) {
  const LockPlan plan = PlanOf(60'000);
  EXPECT_EQ(plan.freeze_step, 1000);
  EXPECT_EQ(plan.lock_step, 2000);
  EXPECT_EQ(plan.WarmupAt(0), 0);
  EXPECT_EQ(plan.WarmupAt(500) * LockConfig().entropy_coeff(), 2.5e-3);
  EXPECT_EQ(plan.WarmupAt(1000), 1);
  EXPECT_EQ(plan.WarmupAt(60'000), 1);
  EXPECT_EQ(plan.AnnealAt(999), 0);
  EXPECT_EQ(plan.AnnealAt(1000), 0);
  EXPECT_NEAR(plan.AnnealAt(1250), 0.1464466094067262, 1e-15);
  EXPECT_NEAR(plan.AnnealAt(1500), 0.5, 1e-15);
  EXPECT_LT(plan.AnnealAt(1999), 1);
  EXPECT_EQ(plan.AnnealAt(2000), 1);
  EXPECT_EQ(plan.AnnealAt(50'000), 1);
  EXPECT_EQ(plan.StageAt(999), LockStage::kFull);
  EXPECT_EQ(plan.StageAt(1000), LockStage::kAnneal);
  EXPECT_EQ(plan.StageAt(1999), LockStage::kAnneal);
  EXPECT_EQ(plan.StageAt(2000), LockStage::kLocked);
}

TEST(LockPlan, HalvesAreRoundedToEven) {
  EXPECT_EQ(PlanOf(10, 0.25, 0.75).freeze_step, 2);
  EXPECT_EQ(PlanOf(10, 0.35, 0.75).lock_step, 8);
}

TEST(LockPlan, DrawnOwnersMayBeginAtOnce) {
  const LockPlan plan = PlanOf(100, 0, 0);
  EXPECT_EQ(plan.StageAt(0), LockStage::kLocked);
  EXPECT_EQ(plan.AnnealAt(0), 1);
  EXPECT_EQ(plan.WarmupAt(0), 1);
}

}  // namespace
}  // namespace unipool
