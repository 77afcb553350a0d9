// Which experts stay: the best of each block, nested, and what is refused.
#include "models/kept_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/fresh_seed.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(KeptExperts, TheLargestStayAndTheFirstOfEqualOnes) {
  const Config config = ConfigOf({.experts = 6});
  const std::vector<double> score{3, 1, 4, 1, 5, 4};
  EXPECT_THAT(KeptExperts(config, score, 1), ElementsAre(4));
  EXPECT_THAT(KeptExperts(config, score, 2), ElementsAre(2, 4));
  EXPECT_THAT(KeptExperts(config, score, 4), ElementsAre(0, 2, 4, 5));
  EXPECT_THAT(KeptExperts(config, score, 5), ElementsAre(0, 1, 2, 4, 5));
}

TEST(KeptExperts, EachBlockKeepsAsMany) {
  const Config grouped = ConfigOf({.sharing = Sharing::GROUPED, .groups = 2, .experts = 6, .layers = 4});
  EXPECT_THAT(KeptExperts(grouped, {9, 8, 7, 1, 3, 2}, 4), ElementsAre(0, 1, 4, 5));
  const Config own =
      ConfigOf({.router = RouterType::SOFTMAX, .sharing = Sharing::PRIVATE, .experts = 9, .layers = 3});
  EXPECT_THAT(KeptExperts(own, {1, 2, 3, 6, 5, 4, 7, 9, 8}, 3), ElementsAre(2, 3, 7));
}

TEST(KeptExperts, SmallerPoolsLieInsideLargerOnes) {
  const Config config = ConfigOf({.experts = 20});
  std::vector<double> score;
  for (int i = 0; i < 20; ++i) score.push_back(RandomUniform(FreshSeed(), i / 2));  // with equal ones
  for (int64_t m = 1; m < 19; ++m) {
    const std::vector<int64_t> small = KeptExperts(config, score, m),
                               large = KeptExperts(config, score, m + 1);
    EXPECT_EQ(static_cast<int64_t>(small.size()), m);
    EXPECT_TRUE(std::includes(large.begin(), large.end(), small.begin(), small.end()));
  }
}

TEST(KeptExperts, ScoresSumOverLayers) {
  ModelSpec spec;
  spec.layers = 2;
  spec.experts = 3;
  ImportanceHistory history(spec);
  const uint64_t seed = FreshSeed();
  for (int step = 0; step < 40; ++step) {
    std::vector<double> importance(6), counts(6);
    for (int i = 0; i < 6; ++i)
      importance[i] = RandomUniform(seed, step * 6 + i), counts[i] = 10 * i + step % 3;
    history.AddStep(importance, counts);
  }
  const std::vector<double> ucb = KeepScore(ShrinkBy::UCB, history, 1),
                            counts = KeepScore(ShrinkBy::COUNTS, history, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ(ucb[i], history.Ucb()[i] + history.Ucb()[i + 3]);
    EXPECT_NEAR(counts[i], 20 * i + 30 + 1.9, 0.2);
  }
  const std::vector<double> one = KeepScore(ShrinkBy::RANDOM, history, 1);
  EXPECT_EQ(KeepScore(ShrinkBy::RANDOM, history, 1), one);
  EXPECT_NE(KeepScore(ShrinkBy::RANDOM, history, 2), one);
}

TEST(KeptExperts, WhatCannotBeIsASentence) {
  EXPECT_EQ(WhyNotShrink(ConfigOf({.experts = 7, .top_k = 2}), 2), "");
  EXPECT_THAT(WhyNotShrink(ConfigOf({.experts = 7, .top_k = 2}), 1), HasSubstr("moe.top_k is 2"));
  EXPECT_THAT(WhyNotShrink(ConfigOf({.experts = 7}), 7), HasSubstr("below the 7 experts"));
  EXPECT_THAT(WhyNotShrink(ConfigOf({.experts = 7}), 0), HasSubstr("at least 1"));
  EXPECT_THAT(WhyNotShrink(ConfigOf({.experts = 7}), -3), HasSubstr("at least 1"));
  EXPECT_THAT(
      WhyNotShrink(ConfigOf({.sharing = Sharing::GROUPED, .groups = 2, .experts = 10, .layers = 4}), 5),
      HasSubstr("a multiple of the 2 blocks"));
  EXPECT_THAT(WhyNotShrink(ConfigOf({.sharing = Sharing::DENSE, .balance = Balance::NONE, .experts = 5}), 2),
              HasSubstr("cannot shrink"));
}

}  // namespace
}  // namespace unipool
