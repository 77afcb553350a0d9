// Experts fade on a schedule that does not depend on the layout, and a continued run fades on bit for bit.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "models/fading_experts.h"
#include "runtime/errors.h"
#include "tests/models/layouts.h"
#include "tests/models/rank_state.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int64_t kBegin = 12, kEnd = 18;

Config FadingConfig(ShrinkBy::Value by = ShrinkBy::UCB) {
  Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 4});
  MoeConfig& moe = *config.mutable_moe();
  moe.set_shrink_to(4);
  moe.set_shrink_begin(kBegin);
  moe.set_shrink_end(kEnd);
  moe.set_shrink_by(by);
  return config;
}

std::vector<double> Steps(TrainingEngine& engine, const Config& config, int64_t first, int64_t last) {
  FadingExperts fading(config, engine.parts().use);
  std::vector<double> losses;
  for (int64_t step = first; step < last; ++step) {
    EXPECT_EQ(fading.Apply(step), step == kBegin);
    losses.push_back(RunSteps(engine, config, step, step + 1).loss[0]);
  }
  return losses;
}

TEST(FadingExperts, FollowTheSchedule) {
  const Config config = FadingConfig();
  OneRank one;
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  ExpertUse& use = engine.parts().use;
  FadingExperts fading(config, use);
  for (int64_t step = 0; step < kEnd; ++step) {
    fading.Apply(step);
    EXPECT_EQ(fading.IsAmid(step), step >= kBegin);
    EXPECT_FALSE(fading.IsOver(step));
    const double x = step < kBegin ? 0 : (step + 1.0 - kBegin) / (kEnd - kBegin);
    int whole = 0;
    for (const float factor : use.visibility.of(2)) {
      whole += factor == 1;
      if (factor == 1) continue;
      EXPECT_NEAR(factor, (1 + std::cos(M_PI * x)) / 2, 1e-6) << step;
    }
    EXPECT_EQ(whole, step < kBegin ? 7 : 4) << step;
    RunSteps(engine, config, step, step + 1);
  }
  EXPECT_TRUE(fading.IsOver(kEnd));
  const std::vector<int64_t> kept = fading.Kept();
  ASSERT_EQ(kept.size(), 4u);
  for (int64_t l = 0; l < 4; ++l) {  // nobody chose the others in the last step
    for (int64_t i = 0; i < 7; ++i) {
      if (std::find(kept.begin(), kept.end(), i) != kept.end()) continue;
      EXPECT_EQ(use.statistics.step_counts()[l * 7 + i], 0);
    }
  }
}

TEST(FadingExperts, NeedAHistoryUnlessTheyAreDrawn) {
  OneRank one;
  Config config = FadingConfig();
  TrainingEngine engine(config, one.world);
  EXPECT_THROW(FadingExperts(config, engine.parts().use).Apply(kBegin), UserError);
  config = FadingConfig(ShrinkBy::RANDOM);
  EXPECT_TRUE(FadingExperts(config, engine.parts().use).Apply(kBegin));
}

TEST(FadingExperts, AreTheSameOnEveryLayout) {
  RunOnRanks([](World& world) {
    const Config config = FadingConfig();
    std::vector<int64_t> expected;
    std::vector<double> losses;
    {
      OneRank one;
      TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
      losses = Steps(engine, config, 0, kEnd);
      expected = FadingExperts(config, engine.parts().use).Kept();
    }
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      const Config laid = Laid(config, layout);
      TrainingEngine engine(laid, world, {.dtype = DType::kF64});
      ExpectClose(Steps(engine, laid, 0, kEnd), losses, 1e-9, "loss");
      EXPECT_EQ(FadingExperts(laid, engine.parts().use).Kept(), expected);
    }
  });
}

TEST(FadingExperts, FadeOnInAContinuedRunBitForBit) {
  RunOnRanks([](World& world) {
    Config config = FadingConfig();
    for (const int64_t saved_step : {kBegin, kBegin + 1, kEnd - 1}) {
      Memory saved;
      std::vector<double> expected;
      {
        TrainingEngine engine(config, world);
        Steps(engine, config, 0, saved_step);
        engine.state().Collect();
        saved = Gather(engine, world);
        expected = Steps(engine, config, saved_step, kEnd);
      }
      config.mutable_train()->set_seed(saved_step);
      TrainingEngine engine(config, world);
      Restore(engine, saved);
      EXPECT_EQ(Steps(engine, config, saved_step, kEnd), expected) << saved_step;
    }
  });
}

TEST(FadingExperts, WrongSettingsAreSentences) {
  using testing::ElementsAre;
  using testing::HasSubstr;
  EXPECT_TRUE(FadingProblems(FadingConfig()).empty());
  Config config = FadingConfig();
  config.mutable_moe()->set_shrink_begin(9);
  EXPECT_THAT(FadingProblems(config), ElementsAre(HasSubstr("at least 10")));
  config.mutable_moe()->set_shrink_by(ShrinkBy::RANDOM);
  EXPECT_TRUE(FadingProblems(config).empty());
  config.mutable_moe()->set_shrink_end(9);
  EXPECT_THAT(FadingProblems(config), ElementsAre(HasSubstr("moe.shrink_end: is 9")));
  config.mutable_moe()->set_shrink_end(config.train().steps());
  EXPECT_THAT(FadingProblems(config), ElementsAre(HasSubstr("before train.steps (20)")));
  config = FadingConfig();
  config.mutable_moe()->set_shrink_to(1);
  EXPECT_THAT(FadingProblems(config), ElementsAre(HasSubstr("moe.shrink_to: is 1")));
  config.mutable_moe()->set_shrink_to(0);
  EXPECT_THAT(FadingProblems(config), ElementsAre(HasSubstr("only with moe.shrink_to")));
}

}  // namespace
}  // namespace unipool
