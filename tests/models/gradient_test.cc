// The gradient of the whole model, attention to experts to balancing loss, against finite differences of the
// total loss in double. The gradient is read where it has an effect: with beta1 = 0 AdamW's first moment is
// the gradient itself, and with a learning rate of 0 nothing moves.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "models/settings.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

constexpr double kRelativeError = 1e-6;
// Elements whose gradient is far below its tensor's typical one are compared with this share of that instead.
constexpr double kSmallestShare = 0.03;
// Times the relative error: what rounding leaves of a difference of losses. Gradients of zero are below it.
constexpr double kSmallestUnit = 1e-6;

struct Element {
  std::string name;
  double* value = nullptr;
  double gradient = 0, typical = 0;  // typical: root mean square over the tensor
};

// "model.layers.2.mlp.router.weight" -> "mlp.router.weight", "model.pool.experts.3.up_proj.weight" ->
// "up_proj.weight".
std::string KindOf(const std::string& name) {
  const size_t digit = name.find_first_of("0123456789");
  return digit == std::string::npos ? name : name.substr(name.find('.', digit) + 1);
}

class GradientCheck {
 public:
  GradientCheck(const SmallModel& small, uint64_t seed) : config_(MakeConfig(small)), random_(seed) {
    engine_ = std::make_unique<TrainingEngine>(config_, one_.world, EngineOptions{.dtype = DType::kF64});
    samples_ = SamplesOf(*engine_, config_, seed, 0, tokens_);
    std::normal_distribution<double> normal;
    tensors_ = engine_->state().Weights();
    for (const DiskTensor& tensor : tensors_) {
      const double mean = tensor.name.ends_with("norm.weight") || tensor.name.ends_with("scale") ? 1 : 0;
      const bool is_bias = tensor.name.ends_with("bias");
      for (int64_t i = 0; i < tensor.value.size(); ++i)
        tensor.value.as<double>()[i] = mean + (is_bias ? 0.05 : 0.3) * normal(random_);
    }
    engine_->state().WeightsLoaded();
    // Shares of an imagined step before, so that the loss does not depend on them through the choices.
    for (const DiskTensor& state : engine_->state().BetweenSteps()) {
      for (int64_t i = 0; i < state.value.size(); ++i)
        state.value.as<double>()[i] = std::uniform_real_distribution<double>(0.02, 0.3)(random_);
      if (state.name.ends_with(".step")) state.value.as<double>()[0] = 0;
    }
    Loss();
    counts_ = engine_->parts().use.statistics.step_counts();
  }

  // Compares random elements of every kind of parameter, and counts them. False when there is a kind of which
  // none could be compared: these weights lie where the loss is not smooth, or no balancing loss is left.
  bool Run(int& compared) {
    if (!balance_has_a_say_) return false;  // all loads below a hinge
    std::map<std::string, std::vector<Element>> kinds = ElementsByKind();
    bool all_kinds = true;
    for (auto& [kind, elements] : kinds) {
      int good = 0;
      std::shuffle(elements.begin(), elements.end(), random_);
      for (size_t i = 0; i < elements.size() && i < 12 && good < 2; ++i) good += Compare(elements[i]);
      all_kinds &= good > 0;
      compared += good;
    }
    EXPECT_EQ(kinds.size(), config_.moe().sharing() == Sharing::DENSE        ? 12
                            : HasSigma(RouterKindOf(config_.moe().router())) ? 14
                                                                             : 13);
    return all_kinds;
  }

 private:
  static Config MakeConfig(const SmallModel& small) {
    Config config = ConfigOf(small);
    config.mutable_train()->set_global_batch(4);
    config.mutable_train()->set_micro_batch(2);
    config.mutable_train()->set_beta1(0);
    config.mutable_train()->set_clip(0);
    config.mutable_model()->set_vocab(9);  // of 13 rows; others get gradients too
    config.mutable_train()->set_recompute_experts(small.top_k == 2);
    return config;
  }

  // Total loss at the current weights; leaves the gradients in the moments and everything else as it was.
  double Loss() {
    engine_->state().AllLoaded();
    std::vector<std::vector<double>> biases;
    for (const DiskTensor& t : tensors_) {
      if (t.name.ends_with("bias"))
        biases.emplace_back(t.value.as<double>(), t.value.as<double>() + t.value.size());
    }
    const StepReport report = engine_->TrainStep(1, 0, samples_);
    size_t i = 0;
    for (const DiskTensor& t : tensors_) {
      if (t.name.ends_with("bias")) std::copy(biases[i].begin(), biases[i].end(), t.value.as<double>()), ++i;
    }
    if (config_.moe().balance() == Balance::POOL_LOSS || config_.moe().balance() == Balance::LAYER_LOSS) {
      balance_has_a_say_ = report.load.pool_loss > 1e-3;
    } else {
      EXPECT_EQ(report.load.pool_loss, 0);
    }
    return report.loss + report.load.pool_loss;
  }

  std::map<std::string, std::vector<Element>> ElementsByKind() {
    std::map<std::string, const DiskTensor*> by_name;
    for (const DiskTensor& tensor : tensors_) by_name[tensor.name] = &tensor;
    std::map<std::string, std::vector<Element>> kinds;
    std::set<std::string> seen;
    for (const OptimizerPiece& piece : engine_->state().Moments()) {
      const double* gradient = piece.first_moment.as<double>();
      double squares = 0;
      for (int64_t i = 0; i < piece.elements.size(); ++i) squares += gradient[i] * gradient[i];
      const double typical = std::sqrt(squares / static_cast<double>(piece.elements.size()));
      const DiskTensor& tensor = *by_name.at(piece.name);
      EXPECT_EQ(piece.elements.size(), tensor.value.size());
      seen.insert(piece.name);
      for (int64_t i = 0; i < piece.elements.size(); ++i) {
        if (std::abs(gradient[i]) < kSmallestShare * typical || typical == 0) continue;
        kinds[KindOf(piece.name)].push_back({piece.name + "[" + std::to_string(i) + "]",
                                             tensor.value.as<double>() + i, gradient[i], typical});
      }
    }
    for (const DiskTensor& tensor : tensors_) {
      EXPECT_TRUE(seen.count(tensor.name) || tensor.name.ends_with("bias"))
          << tensor.name << " is not trained";
    }
    return kinds;
  }

  double LossAt(const Element& element, double value, bool& same_choices) {
    const double before = *element.value;
    *element.value = value;
    const double loss = Loss();
    *element.value = before;
    same_choices &= engine_->parts().use.statistics.step_counts() == counts_;
    return loss;
  }

  // Fourth-order central difference.
  double Difference(const Element& element, double h, bool& same_choices) {
    const double x = *element.value;
    auto at = [&](double shift) { return LossAt(element, x + shift, same_choices); };
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  }

  // False where the loss is not smooth between the points: a choice or the sign of a score changes. That is
  // seen by the counts, or by two differences that disagree with each other.
  bool Compare(const Element& element) {
    bool same_choices = true;
    const double wide = Difference(element, 2e-4, same_choices),
                 narrow = Difference(element, 1e-4, same_choices);
    const double unit = std::max({std::abs(narrow), kSmallestShare * element.typical, kSmallestUnit});
    if (!same_choices || std::abs(wide - narrow) > kRelativeError * unit) return false;
    EXPECT_LE(std::abs(element.gradient - narrow), kRelativeError * unit)
        << element.name << ": gradient " << element.gradient << ", finite difference " << narrow;
    return true;
  }

  const Config config_;
  std::mt19937_64 random_;
  OneRank one_;
  std::unique_ptr<TrainingEngine> engine_;
  std::vector<int32_t> tokens_;
  Tensor samples_;
  std::vector<DiskTensor> tensors_;
  std::vector<double> counts_;
  bool balance_has_a_say_ = true;
};

void CheckAll(const std::vector<SmallModel>& models) {
  uint64_t seed = std::random_device{}();
  int compared = 0;
  for (const SmallModel& small : models) {
    bool complete = false;
    for (int attempt = 0; attempt < 8 && !complete && !testing::Test::HasFailure(); ++attempt, ++seed) {
      SCOPED_TRACE(NameOf(small) + ", seed " + std::to_string(seed));
      complete = GradientCheck(small, seed).Run(compared);
    }
    EXPECT_TRUE(complete) << NameOf(small) << ": kinds of parameters without any comparison";
  }
  EXPECT_GE(compared, static_cast<int>(20 * models.size()));
}

std::vector<SmallModel> AllRoutersAndBalances(SmallModel base) {
  std::vector<SmallModel> models;
  for (int r = 0; r < RouterType::Value_descriptor()->value_count(); ++r) {
    for (Balance::Value balance : {Balance::POOL_LOSS, Balance::LAYER_LOSS, Balance::BIAS, Balance::NONE}) {
      base.router = static_cast<RouterType::Value>(RouterType::Value_descriptor()->value(r)->number());
      base.balance = balance;
      models.push_back(base);
    }
  }
  return models;
}

TEST(Gradient, GlobalPoolTop1) {
  CheckAll(AllRoutersAndBalances({.experts = 7, .top_k = 1, .layers = 2}));
}
TEST(Gradient, GlobalPoolTop2) {
  CheckAll(AllRoutersAndBalances({.experts = 7, .top_k = 2, .layers = 2}));
}
TEST(Gradient, GroupedTop1) {
  CheckAll(AllRoutersAndBalances(
      {.sharing = Sharing::GROUPED, .groups = 2, .experts = 6, .top_k = 1, .layers = 4}));
}
TEST(Gradient, GroupedTop2) {
  CheckAll(AllRoutersAndBalances(
      {.sharing = Sharing::GROUPED, .groups = 2, .experts = 6, .top_k = 2, .layers = 4}));
}
TEST(Gradient, PrivateTop1) {
  CheckAll(AllRoutersAndBalances({.sharing = Sharing::PRIVATE, .experts = 8, .top_k = 1, .layers = 2}));
}
TEST(Gradient, PrivateTop2) {
  CheckAll(AllRoutersAndBalances({.sharing = Sharing::PRIVATE, .experts = 8, .top_k = 2, .layers = 2}));
}
TEST(Gradient, PositiveCountsAndHinge) {
  std::vector<SmallModel> models;
  for (const Balance::Value balance : {Balance::POOL_LOSS, Balance::LAYER_LOSS}) {
    models.push_back({.balance = balance, .layers = 2, .counts = BalanceCounts::POSITIVE});
    models.push_back({.balance = balance, .top_k = 2, .layers = 2, .coeff = 0.5, .hinge = true});
  }
  CheckAll(models);
}
TEST(Gradient, Sliding) {
  CheckAll(
      AllRoutersAndBalances({.sharing = Sharing::SLIDING, .experts = 7, .top_k = 2, .layers = 3, .band = 4}));
}
TEST(Gradient, Dense) {
  CheckAll({{.sharing = Sharing::DENSE, .balance = Balance::NONE, .experts = 2, .layers = 2}});
}

}  // namespace
}  // namespace unipool
