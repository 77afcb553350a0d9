// Training with BF16 products on the CPU: it learns like F32, its bits are reproducible, layouts agree, and
// masters are F32 and may be trained in either way.
#include <cmath>

#include "models/settings.h"
#include "tests/models/layouts.h"
#include "tests/models/rank_state.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

Config Bf16ConfigOf(const SmallModel& small) {
  Config config = TrainingConfigOf(small);
  config.mutable_train()->set_precision(TrainConfig::BF16);
  return config;
}

RunTrace TrainBf16(const Config& config, World& world, int64_t steps) {
  TrainingEngine engine(config, world);
  return RunSteps(engine, config, 0, steps);
}

TEST(Bf16OnTheCpu, LearnsLikeF32AndGivesOtherNumbers) {
  for (const SmallModel& small : PresetKinds()) {
    OneRank one;
    const RunTrace exact = Train(TrainingConfigOf(small), one.world, DType::kF32, 12);
    const RunTrace rounded = TrainBf16(Bf16ConfigOf(small), one.world, 12);
    EXPECT_LT(rounded.loss.back(), rounded.loss.front() - 0.03) << NameOf(small);
    EXPECT_NE(rounded.loss[0], exact.loss[0]) << "the products were not those of BF16 numbers";
    for (size_t i = 0; i < exact.loss.size(); ++i) {
      EXPECT_NEAR(rounded.loss[i], exact.loss[i], 0.02 * exact.loss[i]) << NameOf(small) << ", step " << i;
    }
  }
}

TEST(Bf16OnTheCpu, LayoutsTrainLikeOneRankAndTwiceTheSame) {
  const SmallModel small{.experts = 7, .top_k = 2};
  RunOnRanks([&](World& world) {
    const Config config = Bf16ConfigOf(small);
    OneRank one;
    const RunTrace alone = TrainBf16(config, one.world, 8);
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      const Config laid = Laid(config, layout);
      const RunTrace trace = TrainBf16(laid, world, 8);
      EXPECT_TRUE(TrainBf16(laid, world, 8) == trace);
      // A number that rounds the other way in one layout is 2^-9 of itself off.
      ExpectSameTraining(trace, alone, 4e-3);
    }
  });
}

TEST(Bf16OnTheCpu, ContinuesBitForBitAndInEitherPrecision) {
  RunOnRanks([](World& world) {
    const Config config = Bf16ConfigOf({.experts = 7, .top_k = 2});
    Config exact = config;
    exact.mutable_train()->set_precision(TrainConfig::FP32);
    Memory saved;
    RunTrace expected;
    {
      TrainingEngine engine(config, world);
      RunSteps(engine, config, 0, 3);
      engine.state().Collect();
      saved = Gather(engine, world);
      for (const DiskTensor& tensor : engine.state().ModelTensors())
        EXPECT_EQ(tensor.value.dtype, DType::kF32);
      expected = RunSteps(engine, config, 3, 6);
    }
    TrainingEngine again(config, world), in_f32(exact, world), back(config, world);
    Restore(again, saved);
    EXPECT_TRUE(RunSteps(again, config, 3, 6) == expected);
    Restore(in_f32, saved);
    const RunTrace f32 = RunSteps(in_f32, exact, 3, 6);
    EXPECT_FALSE(f32 == expected);
    ExpectClose(f32.loss, expected.loss, 0.02, "loss in F32");
    in_f32.state().Collect();
    Restore(back, Gather(in_f32, world));
    EXPECT_LT(RunSteps(back, config, 6, 9).loss.back(), expected.loss.front());
  });
}

TEST(Bf16OnTheCpu, SlotsAtOnceGiveTheSameBits) {
  OneRank one;
  Config config = Bf16ConfigOf({.experts = 7, .top_k = 2});
  config.mutable_train()->set_weight_grad_slots(1);
  const RunTrace each = TrainBf16(config, one.world, 4);
  for (const int slots : {2, 8}) {
    config.mutable_train()->set_weight_grad_slots(slots);
    EXPECT_TRUE(TrainBf16(config, one.world, 4) == each) << slots;
  }
}

}  // namespace
}  // namespace unipool
