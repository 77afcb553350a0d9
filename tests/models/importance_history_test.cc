// The history against its formulas, written out over windows.
#include "models/importance_history.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/fresh_seed.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

ModelSpec SpecOf(int64_t layers, int64_t experts) {
  ModelSpec spec;
  spec.layers = layers;
  spec.experts = experts;
  return spec;
}

TEST(ImportanceHistory, FollowsItsFormulas) {
  constexpr int kLayers = 2, kExperts = 3, kSize = kLayers * kExperts;
  ImportanceHistory history(SpecOf(kLayers, kExperts));
  const uint64_t seed = FreshSeed();
  std::vector<double> mean(kSize), spread(kSize), choices(kSize);
  for (int window = 0; window < 7; ++window) {
    EXPECT_EQ(history.exists(), window > 0);
    std::vector<double> importance_sum(kSize), choices_sum(kSize);
    for (int step = 0; step < 10; ++step) {
      std::vector<double> importance(kSize), counts(kSize);
      for (int i = 0; i < kSize; ++i) {
        const uint64_t bits = RandomBits(seed, (window * 10 + step) * kSize + i);
        importance[i] = static_cast<double>(bits % 1000) / 500 - 1;  // of either sign
        counts[i] = static_cast<double>(bits >> 40 & 63);
        importance_sum[i] += std::abs(importance[i]);
        choices_sum[i] += counts[i];
      }
      history.AddStep(importance, counts);
    }
    for (int i = 0; i < kSize; ++i) {
      const double now = importance_sum[i] / 10;
      mean[i] = 0.85 * mean[i] + 0.15 * now;
      spread[i] = 0.95 * spread[i] + 0.05 * std::abs(now - mean[i]);
      choices[i] = 0.85 * choices[i] + 0.15 * choices_sum[i] / 10;
    }
    const double fast = 1 - std::pow(0.85, window + 1), slow = 1 - std::pow(0.95, window + 1);
    double total = 0, entropy = 0;
    for (int i = 0; i < kSize; ++i) {
      EXPECT_NEAR(history.Mean()[i], mean[i] / fast, 1e-12);
      EXPECT_NEAR(history.Counts()[i], choices[i] / fast, 1e-10);
      EXPECT_NEAR(history.Ucb()[i], std::sqrt(mean[i] / fast * spread[i] / slow), 1e-12);
      total += mean[i];
    }
    for (int i = 0; i < kExperts; ++i) {
      const double share = (mean[i] + mean[i + kExperts]) / total;
      entropy -= share * std::log(share);
    }
    EXPECT_NEAR(history.EffectiveExperts(), std::exp(entropy), 1e-10);
  }
}

TEST(ImportanceHistory, OneExpertWithAllImportanceIsOneEffectiveExpert) {
  ImportanceHistory history(SpecOf(2, 4));
  for (int step = 0; step < 10; ++step)
    history.AddStep(std::vector<double>{0, 0, 2, 0, 0, 0, -1, 0}, std::vector<double>(8));
  EXPECT_DOUBLE_EQ(history.EffectiveExperts(), 1);
  EXPECT_NEAR(history.Mean()[2], 2, 1e-14);
  EXPECT_NEAR(history.Mean()[6], 1, 1e-14);
}

TEST(ImportanceHistory, DenseModelsHaveNone) {
  ModelSpec spec = SpecOf(2, 2);
  spec.has_router = false;
  ImportanceHistory history(spec);
  for (int step = 0; step < 30; ++step) history.AddStep(std::vector<double>(4), std::vector<double>(4));
  EXPECT_FALSE(history.exists());
  EXPECT_TRUE(history.State().empty());
}

}  // namespace
}  // namespace unipool
