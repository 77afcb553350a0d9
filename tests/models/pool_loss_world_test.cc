// Balancing losses, shares, biases and load statistics of whole training steps against their formulas
// (models/POOL_LOSS.md), computed from the routing of the plain reference model, at every scope and layout.
#include <algorithm>
#include <cstring>

#include "tests/models/expected_balance.h"
#include "tests/models/small_model.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kSteps = 3;

Config LayoutConfig(const SmallModel& small, int stages) {
  Config config = ConfigOf(small);
  config.mutable_train()->set_global_batch(24);
  config.mutable_train()->set_micro_batch(2);
  config.mutable_parallel()->set_stages(stages);
  return config;
}

// What rank 0 expects of a step's report.
void CheckReport(const LoadReport& report, const ExpectedBalance& expected, bool has_loss) {
  const double loss = expected.Loss();
  EXPECT_EQ(loss > 1e-3, has_loss) << loss;
  EXPECT_NEAR(report.pool_loss, loss, 1e-12);
  EXPECT_DOUBLE_EQ(report.zero_score_share, expected.ZeroScoreShare());
  EXPECT_DOUBLE_EQ(report.max_violation, expected.MaxViolation());
  EXPECT_EQ(report.dead_experts, expected.DeadExperts());
  EXPECT_DOUBLE_EQ(report.tie_share, expected.TieShare());
}

void ExpectEqualEverywhere(World& world, const LoadReport& report) {
  std::vector<double> values{report.pool_loss,        report.pool_loss_at_balance,
                             report.max_violation,    static_cast<double>(report.dead_experts),
                             report.zero_score_share, report.tie_share};
  const std::vector<double> own = values;
  world.communicator->Broadcast(values.data(), 8 * static_cast<int64_t>(values.size()), 0,
                                {.operation = "report of rank 0"});
  EXPECT_EQ(own, values);
}

void CheckBiases(const TrainingEngine& engine, ReferenceModel& model) {
  for (const DiskTensor& tensor : engine.state().Weights()) {
    if (!tensor.name.ends_with(model.BiasName())) continue;
    const std::vector<double>& bias = model.weight(tensor.name);
    double largest = 0;
    for (int64_t i = 0; i < tensor.value.size(); ++i) {
      EXPECT_NEAR(tensor.value.as<double>()[i], bias[i], 1e-15) << tensor.name << " " << i;
      largest = std::max(largest, std::abs(bias[i]));
    }
    EXPECT_GT(largest, 0);
  }
}

// The step before, or the microbatch before; the first one of all has none.
int64_t ExpectedAge(const SmallModel& small, int64_t step, int64_t microbatches) {
  if (small.balance != Balance::POOL_LOSS) return -1;
  return step > 0 || (small.scope != BalanceScope::STEP && microbatches > 1) ? 1 : -1;
}

// Steps with fixed weights (learning rate 0) and new samples in each. A validation between two steps must
// leave no trace.
void CheckSteps(const SmallModel& small, int stages) {
  RunOnRanks([&](World& world) {
    SCOPED_TRACE(NameOf(small) + ", stages " + std::to_string(stages));
    const Config config = LayoutConfig(small, stages);
    OneRank one;
    const TrainingEngine whole(ConfigOf(small), one.world,
                               {.mode = EngineMode::kEvaluate, .dtype = DType::kF64});
    TrainingEngine engine(config, world, {.dtype = DType::kF64});
    ExpectedBalance expected(config, static_cast<int>(engine.data_ranks()), whole.state().Weights());
    std::vector<int32_t> tokens;
    for (int64_t step = 0; step < kSteps; ++step) {
      const Tensor samples = SamplesOf(engine, config, kSampleKey, step, tokens);
      if (step == 2) engine.EvaluateLossSum(samples, config.train().global_batch() - 1);
      const LoadReport report = engine.TrainStep(step, 0, samples).load;
      ExpectEqualEverywhere(world, report);
      EXPECT_EQ(report.shares_age, ExpectedAge(small, step, engine.microbatches_per_rank()));
      EXPECT_GT(report.seconds, 0);
      EXPECT_LT(report.seconds, 60);
      if (world.rank() != 0) continue;
      expected.Step(step);
      CheckReport(report, expected,
                  small.balance == Balance::LAYER_LOSS || (small.balance == Balance::POOL_LOSS &&
                                                           (step > 0 || small.scope != BalanceScope::STEP)));
      if (small.balance == Balance::BIAS) expected.MoveBiases();
    }
    if (world.rank() == 0) CheckBiases(engine, expected.model());
  });
}

void CheckLayouts(const SmallModel& small) {
  for (int stages = 1; stages <= NumTestRanks(); ++stages) {
    if (NumTestRanks() % stages == 0) CheckSteps(small, stages);
  }
}

// One rank's shares go on in every layout and with larger microbatches: they are those of the microbatch
// before, though their numbers (18 a step, then 12 or fewer) overlap. RANK's are dropped on other data ranks.
void CheckContinuation(BalanceScope::Value scope, int stages) {
  RunOnRanks([&](World& world) {
    const SmallModel small{.scope = scope, .experts = 7, .top_k = 2};
    SCOPED_TRACE(NameOf(small) + ", stages " + std::to_string(stages));
    Config alone = LayoutConfig(small, 1), config = LayoutConfig(small, stages);
    alone.mutable_train()->set_global_batch(36);
    config.mutable_train()->set_global_batch(36);
    config.mutable_train()->set_micro_batch(3);
    OneRank one;
    TrainingEngine before(alone, one.world, {.dtype = DType::kF64});
    ExpectedBalance expected(alone, 1, before.state().Weights());
    std::vector<int32_t> tokens;
    before.TrainStep(0, 0, SamplesOf(before, alone, kSampleKey, 0, tokens));
    before.state().Collect();

    TrainingEngine engine(config, world, {.dtype = DType::kF64});
    const bool is_dropped = scope == BalanceScope::RANK && engine.data_ranks() > 1;
    int num_copied = 0;
    for (const DiskTensor& to : engine.state().BetweenSteps()) {
      for (const DiskTensor& from : before.state().BetweenSteps()) {
        if (from.name != to.name || from.name.starts_with("importance.")) continue;
        std::memcpy(to.value.data, from.value.data, to.value.bytes());
        ++num_copied;
      }
    }
    EXPECT_EQ(num_copied, is_dropped ? 0 : 2);
    engine.state().AllLoaded();
    if (world.rank() == 0) {
      expected.Step(0);
      expected.Continue(config, static_cast<int>(engine.data_ranks()));
      if (is_dropped) expected.ForgetShares();
    }
    for (int64_t step = 1; step < 3; ++step) {
      const LoadReport report =
          engine.TrainStep(step, 0, SamplesOf(engine, config, kSampleKey, step, tokens)).load;
      EXPECT_EQ(report.shares_age, 1);
      if (world.rank() != 0) continue;
      expected.Step(step);
      CheckReport(report, expected, true);
    }
  });
}

// Layers of 7 experts with router NORM: the chance that no score is positive is real, and so are ties at 0.
TEST(PoolLoss, StepScope) {
  CheckLayouts({.scope = BalanceScope::STEP, .experts = 7});
}
TEST(PoolLoss, MicrobatchScope) {
  CheckLayouts({.scope = BalanceScope::MICROBATCH, .experts = 7, .top_k = 2});
}
TEST(PoolLoss, RankScope) {
  CheckLayouts({.scope = BalanceScope::RANK, .experts = 5});
}
TEST(PoolLoss, GroupedPools) {
  CheckLayouts({.router = RouterType::SOFTMAX,
                .sharing = Sharing::GROUPED,
                .groups = 2,
                .experts = 6,
                .top_k = 2,
                .layers = 4});
}
TEST(PoolLoss, SlidingBandsBalanceTogether) {
  CheckLayouts({.sharing = Sharing::SLIDING, .experts = 9, .top_k = 2, .layers = 4, .band = 5});
}
TEST(PoolLoss, LayerLoss) {
  CheckLayouts({.router = RouterType::SOFTMAX,
                .sharing = Sharing::PRIVATE,
                .balance = Balance::LAYER_LOSS,
                .experts = 15,
                .top_k = 2});
}
TEST(PoolLoss, BiasMovesTheChoice) {
  CheckLayouts(
      {.router = RouterType::SIGMOID, .balance = Balance::BIAS, .experts = 7, .top_k = 2, .coeff = 0.02});
}
TEST(PoolLoss, GroupedMicrobatchScope) {
  CheckLayouts({.sharing = Sharing::GROUPED,
                .groups = 2,
                .scope = BalanceScope::MICROBATCH,
                .experts = 6,
                .layers = 4});
}

// What counts as use of an expert, at every scope. With two experts a token, some of its choices are ties.
TEST(PoolLoss, PositiveChoicesAlone) {
  CheckLayouts({.scope = BalanceScope::STEP, .experts = 7, .counts = BalanceCounts::POSITIVE});
  CheckLayouts(
      {.scope = BalanceScope::MICROBATCH, .experts = 7, .top_k = 2, .counts = BalanceCounts::POSITIVE});
  CheckLayouts({.balance = Balance::LAYER_LOSS, .experts = 7, .top_k = 2, .counts = BalanceCounts::POSITIVE});
}
TEST(PoolLoss, Hinge) {
  CheckLayouts({.experts = 7, .top_k = 2, .coeff = 1, .hinge = true});
  CheckLayouts({.scope = BalanceScope::RANK,
                .experts = 7,
                .coeff = 1,
                .counts = BalanceCounts::POSITIVE,
                .hinge = true});
  CheckLayouts({.router = RouterType::SOFTMAX,
                .sharing = Sharing::PRIVATE,
                .balance = Balance::LAYER_LOSS,
                .experts = 15,
                .coeff = 1,
                .hinge = true});
}
// With every router; the rate is large, so that NORM's biases soon outgrow its scores.
TEST(PoolLoss, BiasesOfLayersAndOfPositiveScores) {
  for (const RouterType::Value router : {RouterType::NORM, RouterType::SOFTMAX, RouterType::SIGMOID}) {
    CheckLayouts({.router = router, .balance = Balance::BIAS, .coeff = 0.2, .bias_scope = BiasScope::LAYER});
    CheckLayouts({.router = router,
                  .balance = Balance::BIAS,
                  .top_k = 2,
                  .coeff = 0.2,
                  .counts = BalanceCounts::POSITIVE});
  }
}

TEST(PoolLoss, OneRanksSharesGoOnInEveryLayout) {
  for (BalanceScope::Value scope : {BalanceScope::STEP, BalanceScope::MICROBATCH, BalanceScope::RANK}) {
    for (int stages = 1; stages <= NumTestRanks(); ++stages) {
      if (NumTestRanks() % stages == 0) CheckContinuation(scope, stages);
    }
  }
}

}  // namespace
}  // namespace unipool
