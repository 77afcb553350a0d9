// An engine that is given another's weights, moments and state continues bit for bit, in every scope of the
// pool loss and with aux-free biases, also when a validation came before the save.
#include "tests/models/rank_state.h"
#include "tests/models/training_run.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

void CheckContinuation(const SmallModel& small, int stages) {
  RunOnRanks([&](World& world) {
    SCOPED_TRACE(NameOf(small) + ", stages " + std::to_string(stages));
    Config config = TrainingConfigOf(small);
    config.mutable_parallel()->set_stages(stages);
    Memory saved;
    RunTrace expected;
    {
      TrainingEngine engine(config, world);
      RunSteps(engine, config, 0, 3);
      std::vector<int32_t> tokens;
      engine.EvaluateLossSum(SamplesOf(engine, config, 1, 0, tokens), config.train().global_batch());
      engine.state().Collect();
      saved = Gather(engine, world);
      expected = RunSteps(engine, config, 3, 6);
    }
    config.mutable_train()->set_seed(777);  // other initial weights
    TrainingEngine engine(config, world);
    RunSteps(engine, config, 0, 1);  // and other moments and shares
    Restore(engine, saved);
    EXPECT_EQ(RunSteps(engine, config, 3, 6), expected);
  });
}

void CheckLayouts(const SmallModel& small) {
  for (int stages = 1; stages <= NumTestRanks(); ++stages) {
    if (NumTestRanks() % stages == 0) CheckContinuation(small, stages);
  }
}

TEST(Resume, EveryScopeOfThePoolLoss) {
  for (BalanceScope::Value scope : {BalanceScope::STEP, BalanceScope::MICROBATCH, BalanceScope::RANK})
    CheckLayouts({.scope = scope, .experts = 7});
}
TEST(Resume, PositiveCountsAndHinge) {
  CheckLayouts({.experts = 7, .counts = BalanceCounts::POSITIVE, .hinge = true});
}
TEST(Resume, Biases) {
  CheckLayouts(
      {.router = RouterType::SIGMOID, .balance = Balance::BIAS, .experts = 7, .top_k = 2, .coeff = 0.01});
  CheckLayouts({.balance = Balance::BIAS,
                .experts = 7,
                .top_k = 2,
                .coeff = 0.2,
                .counts = BalanceCounts::POSITIVE,
                .bias_scope = BiasScope::LAYER});
}

}  // namespace
}  // namespace unipool
