// The entropy loss: its value by hand, and its gradient against finite differences.
#include "models/lock/entropy_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

ModelSpec SpecOf(int64_t layers, int64_t experts) {
  ModelSpec spec;
  spec.layers = layers;
  spec.experts = experts;
  spec.top_k = 1;
  return spec;
}

TEST(EntropyLoss, OfEvenScoresIsTheLogarithmOfTheirNumber) {
  EXPECT_NEAR(ScoreEntropy(std::vector<double>{2, 2, 2, 2}), std::log(4), 1e-6);
  EXPECT_NEAR(ScoreEntropy(std::vector<double>{5, 0, 0}), 0, 1e-6);
  EXPECT_NEAR(ScoreEntropy(std::vector<double>{0, 0}), 0, 1e-6) << "no scores";
}

double Loss(const std::vector<double>& scores, double target) {
  const double off = ScoreEntropy(scores) - std::log(target);
  return off * off;
}

TEST(EntropyLoss, GradientMatchesFiniteDifferences) {
  SCOPED_TRACE(SeedText());
  std::mt19937_64 random(FreshSeed());
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<double> scores(7), gradient(7);
    for (double& score : scores) score = std::uniform_real_distribution<double>(0.05, 1)(random);
    EntropyGradient(scores, 3, 2.5, gradient);
    for (size_t i = 0; i < scores.size(); ++i) {
      constexpr double kStep = 1e-5;
      std::vector<double> up = scores, down = scores;
      up[i] += kStep;
      down[i] -= kStep;
      EXPECT_NEAR(gradient[i], 2.5 * (Loss(up, 3) - Loss(down, 3)) / (2 * kStep), 1e-6);
    }
  }
}

TEST(EntropyLoss, PullsTowardsTheTarget) {
  const std::vector<double> sharp{0.9, 0.1, 0, 0};
  std::vector<double> gradient(4);
  EntropyGradient(sharp, 4, 1, gradient);
  EXPECT_GT(gradient[0], 0) << "to spread out, the favourite's score is to fall";
  EntropyGradient(sharp, 1, 1, gradient);
  EXPECT_LT(gradient[0], 0);
}

// STEP uses the mean scores of the step before; the scales of gradient and loss are those of the formulas.
TEST(EntropyLoss, OfStepsIsOneStepBehind) {
  const ModelSpec spec = SpecOf(2, 2);
  const BalanceOptions options{.tokens_per_microbatch = 2, .data_ranks = 3, .microbatches_per_rank = 1};
  EntropyLoss loss(spec, options, 1.5);
  loss.BeginStep(0.5);
  EXPECT_EQ(loss.of(0)[0], 0) << "nothing is known yet";
  loss.Book(1, std::vector<double>{3, 1});
  EXPECT_EQ(loss.of(1)[0], 0);
  StepSums sums(spec, 1, 0, true);
  loss.AddTo(sums);
  EXPECT_EQ(sums.scores, (std::vector<double>{0, 0, 3, 1}));
  loss.EndStep(sums);
  const std::vector<double> means{3. / 6, 1. / 6};
  EXPECT_NEAR(loss.entropy(), ScoreEntropy(means) / 2, 1e-9);
  EXPECT_NEAR(loss.loss(), 0.5 * (Loss(means, 1.5) + Loss({0, 0}, 1.5)) / 2, 1e-9);
  loss.BeginStep(0.5);
  std::vector<double> expected(2);
  EntropyGradient(means, 1.5, 0.5 / 2 / 6, expected);
  EXPECT_DOUBLE_EQ(loss.of(1)[0], expected[0]);
  EXPECT_DOUBLE_EQ(loss.of(1)[1], expected[1]);
}

TEST(EntropyLoss, OfMicrobatchesIsOfTheirOwn) {
  const ModelSpec spec = SpecOf(2, 2);
  EntropyLoss loss(
      spec,
      {.scope = BalanceScope::RANK, .tokens_per_microbatch = 2, .data_ranks = 3, .microbatches_per_rank = 1},
      1.5);
  loss.BeginStep(0.5);
  loss.Book(1, std::vector<double>{3, 1});
  std::vector<double> expected(2);
  EntropyGradient(std::vector<double>{1.5, 0.5}, 1.5, 0.5 / 2 / 6, expected);
  EXPECT_DOUBLE_EQ(loss.of(1)[0], expected[0]);
}

TEST(EntropyLoss, AStepThatIsNoneChangesNothing) {
  const ModelSpec spec = SpecOf(1, 2);
  EntropyLoss loss(spec, {.tokens_per_microbatch = 2, .microbatches_per_rank = 1}, 1);
  StepSums sums(spec, 1, 0, true);
  sums.scores = {1, 1};
  loss.EndStep(sums);
  const double before = loss.entropy();
  sums.scores = {9, 1};
  sums.loss = std::nan("");
  loss.EndStep(sums);
  EXPECT_EQ(loss.entropy(), before);
}

}  // namespace
}  // namespace unipool
