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

using Shape = LearningRateSchedule::Shape;

TEST(LearningRate, ACosineOfItsOwnLengthDoesNotKnowTheRuns) {
  LearningRateSchedule schedule{
      .highest = 8, .lowest = 2, .warmup_fraction = 0.04, .steps = 40, .decay_steps = 101};
  const LearningRateSchedule whole{.highest = 8, .lowest = 2, .warmup_fraction = 0.04, .steps = 101};
  for (const int64_t steps : {40, 101, 500}) {
    schedule.steps = steps;
    for (const int64_t step : {0, 3, 4, 28, 52, 100, 400})
      EXPECT_EQ(LearningRate(schedule, step), LearningRate(whole, step)) << steps << " " << step;
  }
}

TEST(LearningRate, Constant) {
  const LearningRateSchedule schedule{
      .shape = Shape::kConstant, .highest = 8, .lowest = 2, .warmup_fraction = 0.04, .steps = 100};
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 0), 2) << "the first of 4 steps of warm-up";
  for (const int64_t step : {3, 4, 50, 99, 1000}) EXPECT_DOUBLE_EQ(LearningRate(schedule, step), 8) << step;
}

TEST(LearningRate, StableThenTheLastStepsFall) {
  LearningRateSchedule schedule{.shape = Shape::kStable,
                                .highest = 8,
                                .lowest = 2,
                                .warmup_fraction = 0.04,
                                .steps = 100,
                                .decay_steps = 12};
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 1), 4);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 4), 8);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 87), 8) << "the last stable step";
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 88), 7.5) << "the first of 12 steps of 0.5";
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 93), 5);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 99), 2) << "the last step";
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 100), 2) << "beyond the end";
  schedule.decay_steps = 0;
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 89), 8);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 94), 5) << "half of a tenth";
  schedule.steps = 200;
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 94), 8) << "a longer run stays stable";
}

TEST(LearningRate, OneStepWithoutWarmupIsTheHighest) {
  EXPECT_DOUBLE_EQ(LearningRate({.highest = 8, .lowest = 2, .warmup_fraction = 0, .steps = 1}, 0), 8);
}

}  // namespace
}  // namespace unipool
