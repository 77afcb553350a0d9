// Changed settings of a continued run are told with their effect.
#include "launcher/resume_effect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::Not;

Config Settings(const std::vector<std::string>& overrides) {
  return ParseConfig("", "empty", overrides);
}

TEST(ResumeEffect, NothingWhereNothingChanges) {
  EXPECT_EQ(ResumeEffects(Settings({}), Settings({"train.save_every=3"}), 10), "");
}

TEST(ResumeEffect, MoreStepsBendTheLearningRate) {
  const Config before = Settings({"train.steps=10"}), now = Settings({"train.steps=20"});
  EXPECT_THAT(ResumeEffects(before, now, 10), HasSubstr("the learning rate of step 11 is "));
  EXPECT_THAT(ResumeEffects(before, now, 10), HasSubstr("would be 5e-05 with the settings before"));
  EXPECT_THAT(ResumeEffects(before, now, 10), HasSubstr("(train.steps is 10 there and 20 here)"));
  EXPECT_EQ(ResumeEffects(now, before, 10), "") << "no step follows";
}

TEST(ResumeEffect, AnotherBatch) {
  const std::string text = ResumeEffects(Settings({}), Settings({"train.global_batch=16"}), 10);
  EXPECT_THAT(text, HasSubstr("a step has 4096 tokens from here on, and had 2048"));
  EXPECT_THAT(text, Not(HasSubstr("learning rate")));
}

TEST(ResumeEffect, SamplesAreCounted) {
  const Config before = Settings({"train.global_batch=4", "model.seq_length=8"});
  const DataCount old = CountOf(R"({"step":10})", before, 10);
  EXPECT_EQ(old.samples, 40);
  EXPECT_EQ(old.tokens, 320);
  const DataCount count = CountOf(R"({"step":10,"samples":44,"tokens":400})", before, 10);
  EXPECT_EQ(count.samples, 44);
  EXPECT_EQ(count.tokens, 400);
  EXPECT_EQ(CountOf(R"({"samples":-1,"tokens":"x"})", before, 1).samples, 4);
}

}  // namespace
}  // namespace unipool
