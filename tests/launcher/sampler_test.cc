// Which token is chosen from logits: bounds that hold for every seed, and frequencies against the formula.
#include "launcher/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

// Probabilities 1/2, 1/4, 1/8, 1/8 at temperature 1, not in order.
const std::vector<float> kLogits = {std::log(1.f), std::log(4.f), std::log(2.f), std::log(1.f)};

std::vector<double> Frequencies(const SamplerOptions& options, int count = 20'000) {
  Sampler sampler(options);
  std::vector<double> share(kLogits.size(), 0);
  for (int step = 0; step < count; ++step) share[sampler.Choose(kLogits, step)] += 1.0 / count;
  return share;
}

void ExpectNear(const std::vector<double>& share, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(share[i], 0) << "token " << i;
    } else {
      EXPECT_NEAR(share[i], expected[i], 0.02) << "token " << i;  // 5 standard deviations
    }
  }
}

TEST(Sampler, GreedyTakesTheLargestLogitAndOfEqualsTheLowerId) {
  Sampler greedy({});
  EXPECT_EQ(greedy.Choose(kLogits, 0), 1);
  EXPECT_EQ(greedy.Choose(std::vector<float>{-3, 7, -1, 7}, 5), 1);
  EXPECT_EQ(greedy.Choose(std::vector<float>{2}, 0), 0);
}

TEST(Sampler, ChoosesAsOftenAsProbabilitiesSay) {
  const uint64_t seed = FreshSeed();
  ExpectNear(Frequencies({.temperature = 1, .seed = seed}), {0.125, 0.5, 0.25, 0.125});
  // Temperature 1/2 squares the probabilities: 1, 16, 4, 1 of 22.
  ExpectNear(Frequencies({.temperature = 0.5, .seed = seed}), {1. / 22, 16. / 22, 4. / 22, 1. / 22});
}

TEST(Sampler, TopKLeavesOutTheRest) {
  const uint64_t seed = FreshSeed();
  ExpectNear(Frequencies({.temperature = 1, .top_k = 2, .seed = seed}), {0, 2. / 3, 1. / 3, 0});
  ExpectNear(Frequencies({.temperature = 1, .top_k = 1, .seed = seed}), {0, 1, 0, 0});
  // Of equal logits the lower id is kept.
  ExpectNear(Frequencies({.temperature = 1, .top_k = 3, .seed = seed}), {1. / 7, 4. / 7, 2. / 7, 0});
  ExpectNear(Frequencies({.temperature = 1, .top_k = 9, .seed = seed}), {0.125, 0.5, 0.25, 0.125});
}

TEST(Sampler, TopPTakesTheFewestTokensThatReachIt) {
  const uint64_t seed = FreshSeed();
  ExpectNear(Frequencies({.temperature = 1, .top_p = 0.4, .seed = seed}), {0, 1, 0, 0});
  ExpectNear(Frequencies({.temperature = 1, .top_p = 0.6, .seed = seed}), {0, 2. / 3, 1. / 3, 0});
  ExpectNear(Frequencies({.temperature = 1, .top_p = 0.8, .seed = seed}), {1. / 7, 4. / 7, 2. / 7, 0});
  // p counts shares of what top-k has left: 2/3 of the two tokens reach 0.6.
  ExpectNear(Frequencies({.temperature = 1, .top_k = 2, .top_p = 0.6, .seed = seed}), {0, 1, 0, 0});
}

TEST(Sampler, SeedAndStepAloneDecide) {
  auto choices = [](uint64_t seed, int64_t first) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<int32_t> chosen;
    for (int64_t step = first; step < first + 64; ++step) chosen.push_back(sampler.Choose(kLogits, step));
    return chosen;
  };
  const uint64_t seed = FreshSeed();
  EXPECT_EQ(choices(seed, 0), choices(seed, 0));
  EXPECT_NE(choices(seed, 0), choices(seed + 1, 0));
  EXPECT_NE(choices(seed, 0), choices(seed, 64));
}

}  // namespace
}  // namespace unipool
