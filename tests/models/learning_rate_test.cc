// The learning rate at the places where its curve bends.
#include "models/learning_rate.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(LearningRate, RisesThenFallsAlongHalfACosine) {
  const LearningRateSchedule schedule{.highest = 8, .lowest = 2, .warmup_fraction = 0.04, .steps = 101};
  // floor(0.04 * 101) = 4 steps of warm-up; the cosine goes from step 4 to step 100.
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 0), 2);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 1), 4);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 3), 8);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 4), 8);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 52), 5) << "half way";
  EXPECT_NEAR(LearningRate(schedule, 28), 5 + 3 * std::cos(std::numbers::pi / 4), 1e-12) << "a quarter";
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 100), 2);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 1000), 2) << "beyond the end";
}

TEST(LearningRate, OneStepWithoutWarmupIsTheHighest) {
  EXPECT_DOUBLE_EQ(LearningRate({.highest = 8, .lowest = 2, .warmup_fraction = 0, .steps = 1}, 0), 8);
}

}  // namespace
}  // namespace unipool
