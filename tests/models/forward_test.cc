// The engine's losses against the plain reference, token by token generation against whole sequences, and a
// continued run against an uninterrupted one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/models/reference_model.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

std::vector<SmallModel> Kinds() {
  std::vector<SmallModel> kinds = PresetKinds();
  kinds.push_back({.router = RouterType::SOFTMAX, .experts = 7, .top_k = 3});
  return kinds;
}

struct Evaluation {
  Config config;
  OneRank one;
  std::unique_ptr<TrainingEngine> engine;
  std::vector<int32_t> sample;

  Evaluation(const SmallModel& small, DType dtype, uint64_t seed) : config(ConfigOf(small)) {
    config.mutable_train()->set_seed(seed);
    engine = std::make_unique<TrainingEngine>(config, one.world,
                                              EngineOptions{.mode = EngineMode::kEvaluate, .dtype = dtype});
    for (int i = 0; i <= config.model().seq_length(); ++i)
      sample.push_back(SampleToken(seed, 0, 0, i, config.model().vocab()));
    // Norms and scales start at 1 and biases at 0, which would hide that they are not used.
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> factor(0.5, 1.5);
    for (const DiskTensor& tensor : engine->state().Weights()) {
      const bool is_bias = tensor.name.ends_with("router.bias");
      DispatchFloat(dtype, [&]<class T>() {
        for (int64_t i = 0; i < tensor.value.size(); ++i) {
          T& value = tensor.value.as<T>()[i];
          value = static_cast<T>(is_bias ? 0.1 * (factor(random) - 1) : value * factor(random));
        }
      });
    }
    engine->state().WeightsLoaded();
  }
  double LossSum(const std::vector<int32_t>& tokens) {
    const int64_t columns = config.model().seq_length() + 1;
    const Tensor view(const_cast<int32_t*>(tokens.data()), DType::kI32, {1, 1, columns});
    return engine->EvaluateLossSum(view, 1);
  }
};

// In fp32 an expert's choice may fall differently where two scores are nearly equal: rare, and not with these
// weights.
constexpr uint64_t kSeedOfF32 = 17;

void CheckLoss(const SmallModel& small, DType dtype, double tolerance, uint64_t seed) {
  Evaluation run(small, dtype, seed);
  const double expected =
      ReferenceModel(run.config, run.engine->state().Weights()).Forward(run.sample.data()).loss_sum;
  EXPECT_GT(expected, 1);
  EXPECT_NEAR(run.LossSum(run.sample), expected, tolerance * expected);
}

TEST(Forward, LossIsThatOfTheFormulas) {
  const uint64_t seed = std::random_device{}();
  for (const SmallModel& small : Kinds()) {
    SCOPED_TRACE(NameOf(small) + ", seed " + std::to_string(seed));
    CheckLoss(small, DType::kF64, 1e-12, seed);
    CheckLoss(small, DType::kF32, 1e-5, kSeedOfF32);
  }
}

// Every position's log-probabilities, and their sum over a sequence against its evaluated loss.
void CheckDecode(const SmallModel& small, DType dtype, double tolerance, uint64_t seed) {
  Evaluation run(small, dtype, seed);
  const ReferenceModel::Result reference =
      ReferenceModel(run.config, run.engine->state().Weights()).Forward(run.sample.data());
  double loss_sum = 0;
  for (int t = 0; t < run.config.model().seq_length(); ++t) {
    const Tensor logits = run.engine->NextLogits(run.sample[t], t);
    ASSERT_EQ(logits.size(), 13);  // with the padding of the vocabulary
    std::vector<double> z;
    DispatchFloat(dtype, [&]<class T>() { z.assign(logits.as<T>(), logits.as<T>() + logits.size()); });
    double sum = 0;
    for (double value : z) sum += std::exp(value);
    loss_sum -= z[run.sample[t + 1]] - std::log(sum);
    for (size_t i = 0; i < z.size(); ++i)
      EXPECT_NEAR(z[i] - std::log(sum), reference.log_probabilities[t][i], tolerance) << "position " << t;
  }
  EXPECT_NEAR(loss_sum, run.LossSum(run.sample), tolerance * loss_sum);
}

TEST(Decode, AgreesWithTheWholeSequence) {
  const uint64_t seed = std::random_device{}();
  for (const SmallModel& small : Kinds()) {
    SCOPED_TRACE(NameOf(small) + ", seed " + std::to_string(seed));
    CheckDecode(small, DType::kF64, 1e-12, seed);
    CheckDecode(small, DType::kF32, 1e-5, kSeedOfF32);
  }
}

TEST(Decode, BeginsAgainAtPositionZero) {
  Evaluation run({.experts = 7}, DType::kF64, 3);
  auto last_logits = [&] {
    Tensor logits;
    for (int t = 0; t < 6; ++t) logits = run.engine->NextLogits(run.sample[t], t);
    return std::vector<double>(logits.as<double>(), logits.as<double>() + logits.size());
  };
  const std::vector<double> first = last_logits();
  for (int t = 0; t < 10; ++t) run.engine->NextLogits(t % 11, t);  // another text in between
  EXPECT_EQ(last_logits(), first);
}

// Padding sequences of a last batch do not count, whatever tokens they hold.
TEST(Forward, PaddingDoesNotCount) {
  Evaluation run({.experts = 7}, DType::kF64, 5);
  std::vector<int32_t> samples;
  double expected = 0;
  for (int sequence = 0; sequence < 3; ++sequence) {
    std::vector<int32_t> sample;
    for (int i = 0; i < 11; ++i) sample.push_back(SampleToken(5, 1, sequence, i, 11));
    if (sequence < 2) expected += run.LossSum(sample);
    samples.insert(samples.end(), sample.begin(), sample.end());
  }
  EXPECT_NEAR(run.engine->EvaluateLossSum(Tensor(samples.data(), DType::kI32, {3, 1, 11}), 2), expected,
              1e-12 * expected);
}

}  // namespace
}  // namespace unipool
