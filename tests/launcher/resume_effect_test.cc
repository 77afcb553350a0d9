// Changed settings of a continued run are told with their effect.
#include "launcher/checkpoints/resume_effect.h"

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
  EXPECT_THAT(ResumeEffects(before, now, 10), HasSubstr("; train.decay_steps=10 keeps the curve"));
  EXPECT_EQ(ResumeEffects(now, before, 10), "") << "no step follows";
}

TEST(ResumeEffect, RunsThatCanBeLengthened) {
  const auto effect = [](const std::vector<std::string>& settings, int64_t step) {
    std::vector<std::string> before = settings, now = settings;
    before.emplace_back("train.steps=100");
    now.emplace_back("train.steps=200");
    return ResumeEffects(Settings(before), Settings(now), step);
  };
  EXPECT_EQ(effect({"train.lr_schedule=CONSTANT"}, 100), "");
  EXPECT_EQ(effect({"train.decay_steps=100"}, 100), "");
  EXPECT_EQ(effect({"train.decay_steps=300"}, 100), "");
  EXPECT_EQ(effect({"train.lr_schedule=WSD"}, 50), "") << "before the decay";
  EXPECT_THAT(
      effect({"train.lr_schedule=WSD"}, 100),
      HasSubstr("the learning rate of step 101 is 0.0005, and would be 5e-05 with the settings before "
                "(train.steps is 100 there and 200 here)"));
}

TEST(ResumeEffect, AnotherScheduleIsToldWithItsNumbers) {
  EXPECT_EQ(ResumeEffects(Settings({"train.lr_schedule=CONSTANT", "train.steps=100"}),
                          Settings({"train.lr_schedule=WSD", "train.steps=120", "train.decay_steps=20"}), 90),
            "")
      << "the fall has not begun";
  const std::string told =
      ResumeEffects(Settings({"train.lr_schedule=CONSTANT", "train.steps=100"}),
                    Settings({"train.lr_schedule=WSD", "train.steps=110", "train.decay_steps=10"}), 100);
  EXPECT_THAT(told, HasSubstr("the learning rate of step 101 is 0.000455, and would be 0.0005"));
  EXPECT_THAT(told, HasSubstr("train.lr_schedule is CONSTANT there and WSD here"));
  EXPECT_THAT(told, HasSubstr("losses are those of a run that had these settings from the start"));
  const std::string late =
      ResumeEffects(Settings({"train.lr_schedule=CONSTANT", "train.steps=100"}),
                    Settings({"train.lr_schedule=WSD", "train.steps=110", "train.decay_steps=20"}), 100);
  EXPECT_THAT(late, HasSubstr("losses are not those of a run without a break"))
      << "the fall was to begin at 90";
}

TEST(ResumeEffect, AnotherBatch) {
  const std::string text = ResumeEffects(Settings({}), Settings({"train.global_batch=16"}), 10);
  EXPECT_THAT(text, HasSubstr("a step has 4096 tokens from here on, and had 2048"));
  EXPECT_THAT(text, Not(HasSubstr("learning rate")));
}

TEST(ResumeEffect, AnotherOrderOfSamples) {
  EXPECT_THAT(
      ResumeEffects(Settings({}), Settings({"train.seed=7"}), 10),
      HasSubstr("samples come in another order or from other data (train.seed is 1 there and 7 here)"));
  EXPECT_THAT(ResumeEffects(Settings({}), Settings({"data.train=other.txt"}), 10), HasSubstr("data.train"));
  EXPECT_EQ(ResumeEffects(Settings({}), Settings({"data.valid=other.txt"}), 10), "");
}

TEST(ResumeEffect, DataThatHaveChanged) {
  const std::string state = R"({"data":["a: b.txt: 60 bytes, contents 34cd","c.txt: 5 bytes, contents 01"]})";
  EXPECT_EQ(DataEffect(state, {"a: b.txt: 60 bytes, contents 34cd", "c.txt: 5 bytes, contents 01"}), "");
  EXPECT_EQ(DataEffect(state, {"moved.txt: 60 bytes, contents 00"}), "") << "another name is another setting";
  EXPECT_THAT(
      DataEffect(state, {"a: b.txt: 61 bytes, contents 12ab", "c.txt: 5 bytes, contents 01"}),
      HasSubstr("data has changed since the checkpoint (a: b.txt: 61 bytes, contents 12ab here, and 60 "
                "bytes, contents 34cd there)"));
  EXPECT_EQ(DataEffect(R"({"step":3})", {"c.txt: 5 bytes, contents 02"}), "") << "an older checkpoint";
  EXPECT_EQ(DataEffect(R"({"data":[3,{}]})", {"c.txt: 5 bytes, contents 02"}), "");
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
