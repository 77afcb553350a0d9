// Balancing losses, shares, biases and load statistics of whole training steps against their formulas
// (models/POOL_LOSS.md), computed from the routing of the plain reference model, at every scope and layout.
#include <algorithm>
#include <cstring>
#include <map>

#include "tests/models/reference_model.h"
#include "tests/models/small_model.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kSteps = 3;
constexpr uint64_t kSampleKey = 99;

using Counts = std::vector<std::vector<double>>;  // [balance group][expert]

// What one microbatch shows of the routing.
struct Microbatch {
  std::vector<std::vector<double>> counts, score_sums;  // [layer][expert]
  int zero_tokens = 0;
};

class Expected {
 public:
  Expected(const Config& config, int data_ranks, const std::vector<DiskTensor>& weights)
      : config_(config), data_ranks_(data_ranks), model_(config, weights) {}

  // The steps that follow have this configuration and number of data ranks.
  void Continue(const Config& config, int data_ranks) {
    config_ = config;
    data_ranks_ = data_ranks;
  }
  void ForgetShares() { microbatches_.clear(); }

  // Runs a step's forward passes. Microbatch g of the global batch belongs to data rank g % data_ranks.
  void Step(int64_t step) {
    const int count = config_.train().global_batch() / config_.train().micro_batch();
    before_ = std::move(microbatches_);
    ranks_before_ = ranks_now_;
    ranks_now_ = data_ranks_;
    microbatches_.clear();
    for (int g = 0; g < count; ++g) microbatches_.push_back(Forward(step, g));
  }

  // After Step: the loss of the step.
  double Loss() const {
    double loss = 0;
    for (int g = 0; g < static_cast<int>(microbatches_.size()); ++g) loss += LossOf(g);
    return loss / static_cast<double>(microbatches_.size());
  }

  Counts StepCounts() const {
    return CountsOf(microbatches_, [](int) { return true; });
  }
  double ZeroScoreShare() const {
    double zero = 0;
    for (const Microbatch& microbatch : microbatches_) zero += microbatch.zero_tokens;
    const double tokens = config_.train().global_batch() * config_.model().seq_length();
    return zero / (tokens * config_.model().layers());
  }
  double MaxViolation() const {
    double worst = 0;
    for (const std::vector<double>& counts : StepCounts()) {
      double total = 0;
      for (double count : counts) total += count;
      const double most = *std::max_element(counts.begin(), counts.end());
      worst = std::max(worst, most / (total / model_.experts_per_group()) - 1);
    }
    return worst;
  }
  int DeadExperts() const {
    const Counts counts = StepCounts();
    int dead = 0;
    for (int i = 0; i < config_.moe().experts(); ++i) {
      dead += std::all_of(counts.begin(), counts.end(), [&](const auto& group) { return group[i] == 0; });
    }
    return dead;
  }

  // Aux-free: the rule's next biases.
  void MoveBiases() {
    const Counts counts = StepCounts();
    for (int layer = 0; layer < config_.model().layers(); ++layer) {
      const int group = model_.group_of(layer);
      double mean = 0;
      for (double count : counts[group]) mean += count / model_.experts_per_group();
      std::vector<double>& bias = model_.weight("model.layers." + std::to_string(layer) + ".mlp.router.bias");
      for (int i = 0; i < config_.moe().experts(); ++i) {
        if (!model_.sees(layer, i)) continue;
        const double direction = counts[group][i] < mean ? 1 : counts[group][i] > mean ? -1 : 0;
        bias[i] += direction * config_.moe().balance_coeff();
      }
    }
  }
  ReferenceModel& model() { return model_; }

 private:
  Microbatch Forward(int64_t step, int g) const {
    const int layers = config_.model().layers(), experts = config_.moe().experts();
    const std::vector<std::vector<double>> zeros(layers, std::vector<double>(experts, 0.0));
    Microbatch result{.counts = zeros, .score_sums = zeros};
    for (int i = 0; i < config_.train().micro_batch(); ++i) {
      std::vector<int32_t> sample;
      for (int position = 0; position <= config_.model().seq_length(); ++position) {
        sample.push_back(SampleToken(kSampleKey, step, g * config_.train().micro_batch() + i, position,
                                     config_.model().vocab()));
      }
      const auto choices = model_.Forward(sample.data()).choices;
      for (int layer = 0; layer < layers; ++layer) {
        for (const ReferenceModel::Choice& choice : choices[layer]) {
          for (int e = 0; e < experts; ++e) result.score_sums[layer][e] += choice.scores[e];
          for (int e : choice.chosen) result.counts[layer][e] += 1;
          result.zero_tokens +=
              std::none_of(choice.scores.begin(), choice.scores.end(), [](double s) { return s > 0; });
        }
      }
    }
    return result;
  }

  template <class Which>
  Counts CountsOf(const std::vector<Microbatch>& microbatches, Which which) const {
    Counts counts(model_.num_groups(), std::vector<double>(config_.moe().experts(), 0.0));
    for (int g = 0; g < static_cast<int>(microbatches.size()); ++g) {
      if (!which(g)) continue;
      for (int layer = 0; layer < config_.model().layers(); ++layer) {
        for (int e = 0; e < config_.moe().experts(); ++e)
          counts[model_.group_of(layer)][e] += microbatches[g].counts[layer][e];
      }
    }
    return counts;
  }

  // The choices that the shares of microbatch g come from; none: an empty vector.
  Counts Source(int g) const {
    if (config_.moe().balance_scope() == BalanceScope::STEP) {
      return before_.empty() ? Counts{} : CountsOf(before_, [](int) { return true; });
    }
    const int round = g / data_ranks_;
    if (round == 0 && before_.empty()) return {};
    const int ranks = round == 0 ? ranks_before_ : data_ranks_;
    const int previous = round == 0 ? static_cast<int>(before_.size()) / ranks - 1 : round - 1;
    const bool own = config_.moe().balance_scope() == BalanceScope::RANK;
    return CountsOf(round == 0 ? before_ : microbatches_, [&](int other) {
      return other / ranks == previous && (!own || other % ranks == g % ranks);
    });
  }

  double LossOf(int g) const {
    const MoeConfig& moe = config_.moe();
    const int layers = config_.model().layers();
    const double tokens = config_.train().micro_batch() * config_.model().seq_length();
    const double unit = moe.balance_coeff() * model_.experts_per_group();
    double loss = 0;
    if (moe.balance() == Balance::LAYER_LOSS) {
      for (int layer = 0; layer < layers; ++layer) {
        for (int e = 0; e < moe.experts(); ++e) {
          loss += unit * microbatches_[g].counts[layer][e] / (tokens * moe.top_k()) *
                  microbatches_[g].score_sums[layer][e] / tokens;
        }
      }
    }
    if (moe.balance() != Balance::POOL_LOSS) return loss;
    const Counts source = Source(g);
    for (size_t group = 0; group < source.size(); ++group) {
      double total = 0, group_layers = 0;
      for (double count : source[group]) total += count;
      for (int layer = 0; layer < layers; ++layer)
        group_layers += model_.group_of(layer) == static_cast<int>(group);
      for (int e = 0; e < moe.experts(); ++e) {
        double score_sum = 0;
        for (int layer = 0; layer < layers; ++layer) {
          if (model_.group_of(layer) == static_cast<int>(group))
            score_sum += microbatches_[g].score_sums[layer][e];
        }
        loss += unit * source[group][e] / total * score_sum / (tokens * group_layers);
      }
    }
    return loss;
  }

  Config config_;
  int data_ranks_, ranks_now_ = 0, ranks_before_ = 0;  // configured; in this step and in the one before
  ReferenceModel model_;
  std::vector<Microbatch> microbatches_, before_;  // of this step and the one before
};

Config LayoutConfig(const SmallModel& small, int stages) {
  Config config = ConfigOf(small);
  config.mutable_train()->set_global_batch(24);
  config.mutable_train()->set_micro_batch(2);
  config.mutable_parallel()->set_stages(stages);
  return config;
}

// What rank 0 expects of a step's report.
void CheckReport(const LoadReport& report, const Expected& expected, bool has_loss) {
  const double loss = expected.Loss();
  EXPECT_EQ(loss > 1e-3, has_loss) << loss;
  EXPECT_NEAR(report.pool_loss, loss, 1e-12);
  EXPECT_DOUBLE_EQ(report.zero_score_share, expected.ZeroScoreShare());
  EXPECT_DOUBLE_EQ(report.max_violation, expected.MaxViolation());
  EXPECT_EQ(report.dead_experts, expected.DeadExperts());
}

void ExpectEqualEverywhere(World& world, const LoadReport& report) {
  std::vector<double> values{report.pool_loss, report.pool_loss_at_balance, report.max_violation,
                             static_cast<double>(report.dead_experts), report.zero_score_share};
  const std::vector<double> own = values;
  world.communicator->Broadcast(values.data(), 8 * static_cast<int64_t>(values.size()), 0,
                                {.operation = "report of rank 0"});
  EXPECT_EQ(own, values);
}

void CheckBiases(const TrainingEngine& engine, ReferenceModel& model) {
  for (const DiskTensor& tensor : engine.state().Weights()) {
    if (!tensor.name.ends_with("router.bias")) continue;
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
    Expected expected(config, static_cast<int>(engine.data_ranks()), whole.state().Weights());
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
    Expected expected(alone, 1, before.state().Weights());
    std::vector<int32_t> tokens;
    before.TrainStep(0, 0, SamplesOf(before, alone, kSampleKey, 0, tokens));
    before.state().Collect();

    TrainingEngine engine(config, world, {.dtype = DType::kF64});
    const bool is_dropped = scope == BalanceScope::RANK && engine.data_ranks() > 1;
    int num_copied = 0;
    for (const DiskTensor& to : engine.state().BetweenSteps()) {
      for (const DiskTensor& from : before.state().BetweenSteps()) {
        if (from.name != to.name) continue;
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

TEST(PoolLoss, OneRanksSharesGoOnInEveryLayout) {
  for (BalanceScope::Value scope : {BalanceScope::STEP, BalanceScope::MICROBATCH, BalanceScope::RANK}) {
    for (int stages = 1; stages <= NumTestRanks(); ++stages) {
      if (NumTestRanks() % stages == 0) CheckContinuation(scope, stages);
    }
  }
}

}  // namespace
}  // namespace unipool
