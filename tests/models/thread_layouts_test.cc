// Layouts that the tests at 1 to 4 ranks do not reach, on ranks that are threads.
#include "runtime/world.h"
#include "tests/models/layouts.h"

namespace unipool {
namespace {

RunTrace TrainOnThreads(const Config& config, int ranks, int steps) {
  RunTrace trace;
  const int exit_code = RunWorld({.num_threads = ranks}, [&](World& world) {
    const RunTrace own = Train(config, world, DType::kF32, steps);
    if (world.rank() == 0) trace = own;
  });
  EXPECT_EQ(exit_code, 0);
  return trace;
}

// Stages, data ranks and replicas of the pool all at once.
TEST(ThreadLayouts, EightRanksTrainLikeOne) {
  const std::vector<Layout> layouts = {{.stages = 4, .layers = {2, 2, 2, 1}},
                                       {.stages = 4},
                                       {.stages = 2, .replicas = 2, .layers = {5, 2}},
                                       {.stages = 2, .replicas = 2, .experts = ParallelConfig::PER_STAGE}};
  constexpr int kSteps = 20;
  for (const SmallModel& small : PoolVanillaAndDense(/*layers=*/7)) {
    const Config config = TrainingConfigOf(small);
    const RunTrace one = TrainOnThreads(config, 1, kSteps);
    EXPECT_LT(one.loss.back(), one.loss.front() - 0.05) << "nothing is learned";
    for (const Layout& layout : layouts) {
      SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
      const Config laid = Laid(config, layout);
      const RunTrace trace = TrainOnThreads(laid, 8, kSteps);
      ExpectSameTraining(trace, one, 1e-5);
      EXPECT_EQ(TrainOnThreads(laid, 8, kSteps), trace) << "the same run twice";
    }
  }
}

// A head of several chunks, which run in one part after the slots, in parts of one lane's slots or of both,
// or which stages share.
TEST(ThreadLayouts, HeadInPartsTrainsLikeOneRank) {
  Config config = TrainingConfigOf({.experts = 7, .top_k = 2});
  config.mutable_model()->set_vocab(17'000);
  config.mutable_train()->set_micro_batch(18);
  config.mutable_train()->set_global_batch(36);
  ASSERT_GT(180, 2 * OutputHead::MostTokens(17'000, Device::kCpu)) << "several chunks";
  ASSERT_GT(90, OutputHead::MostTokens(17'000, Device::kCpu)) << "of a share of two stages too";
  constexpr int kSteps = 3;
  const RunTrace one = TrainOnThreads(config, 1, kSteps);
  EXPECT_LT(one.loss.back(), one.loss.front());
  for (const std::vector<int>& layers : std::vector<std::vector<int>>{{2, 3}, {3, 2}, {4, 1}, {2, 2, 1}}) {
    const Layout layout{.stages = static_cast<int>(layers.size()), .layers = layers};
    SCOPED_TRACE(NameOf(layout));
    for (const auto head : {ParallelConfig::LAST_STAGE, ParallelConfig::SPREAD}) {
      config.mutable_parallel()->set_head(head);
      ExpectSameTraining(TrainOnThreads(Laid(config, layout), layout.stages, kSteps), one, 1e-5);
    }
  }
}

}  // namespace
}  // namespace unipool
