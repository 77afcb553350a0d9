// How many shadows pay: none where ranks are level or copies cost more than they give, and the best of all
// that were priced otherwise.
#include "parallel/shadow_price.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

constexpr int kLayers = 4, kExperts = 12, kRanks = 4;

class ShadowPriceTest : public ::testing::Test {
 protected:
  std::vector<ShadowPrice> Prices(const std::vector<double>& values, const ShadowCosts& costs) const {
    return PriceShadows({.counts = values, .schedule = schedule_}, ContiguousPlacement(kExperts, kRanks),
                        costs);
  }
  // Expert 0 gets `factor` times as many rows as each other one.
  static std::vector<double> OneHot(double factor) {
    std::vector<double> values(size_t{kLayers} * kExperts, 100);
    for (int layer = 0; layer < kLayers; ++layer) values[size_t{1} * layer * kExperts] *= factor;
    return values;
  }
  const SlotSchedule schedule_{{kLayers}, 8};
  const ShadowCosts free_{.expert_seconds = 1, .shadow_bytes = 10, .free_bytes = 1000};
};

TEST_F(ShadowPriceTest, LevelCountsHaveNone) {
  const std::vector<ShadowPrice> prices = Prices(OneHot(1), free_);
  ASSERT_EQ(prices.size(), 1u);
  EXPECT_EQ(ChooseShadows(prices, free_).shadows, 0);
  EXPECT_NEAR(prices[0].imbalance, 1, 1e-12);
}

// 12 experts, one with 13 times the rows of another: its rank has 15 of 24 parts, and a level one would
// have 6.
TEST_F(ShadowPriceTest, HotExpertsArePricedByTheirRows) {
  const std::vector<ShadowPrice> prices = Prices(OneHot(13), free_);
  EXPECT_NEAR(prices[0].late_seconds, 15 / 6.0 - 1, 1e-12);
  EXPECT_EQ(prices[0].bytes, 0);
  ASSERT_GE(prices.size(), 2u);
  EXPECT_EQ(prices[1].shadows, 1);
  EXPECT_EQ(prices[1].copies, 3);  // on each other rank
  EXPECT_EQ(prices[1].moves, 3);   // which its owner sends
  EXPECT_LT(prices[1].imbalance, 1.02);
  EXPECT_EQ(prices[1].bytes, 10);
  EXPECT_EQ(ChooseShadows(prices, free_).shadows, 1);
}

TEST_F(ShadowPriceTest, WireAndMemoryForbidThem) {
  ShadowCosts costs = free_;
  costs.move_seconds = 0.51;  // three of them cost more than 1.5 seconds of waiting
  EXPECT_EQ(ChooseShadows(Prices(OneHot(13), costs), costs).shadows, 0);
  costs.move_seconds = 0.4;
  const std::vector<ShadowPrice> prices = Prices(OneHot(13), costs);
  EXPECT_EQ(ChooseShadows(prices, costs).shadows, 1);
  EXPECT_NEAR(prices[1].moving_seconds, 1.2, 1e-12);
  costs.free_bytes = 9;  // room for none
  EXPECT_EQ(Prices(OneHot(13), costs).size(), 1u);
}

TEST_F(ShadowPriceTest, GainsThatAreNoneInRunsAreNotTaken) {
  ShadowCosts costs = free_;
  costs.move_seconds = (15 / 6.0 - 1) / 3 - 0.005;  // leaves 0.015 of a step's work on experts
  const std::vector<ShadowPrice> prices = Prices(OneHot(13), costs);
  EXPECT_LT(prices[1].seconds(), prices[0].seconds());
  EXPECT_EQ(ChooseShadows(prices, costs).shadows, 0);
}

TEST_F(ShadowPriceTest, TheChoiceIsTheBestOfAll) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  std::normal_distribution<double> normal(0, 1.2);
  std::uniform_real_distribution<double> uniform(0, 1);
  int some = 0, none = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<double> values;
    for (int i = 0; i < kLayers * kExperts; ++i) values.push_back(100 * std::exp(normal(random)));
    ShadowCosts costs = free_;
    costs.move_seconds = round % 8 == 0 ? 1 : 0.2 * uniform(random) * uniform(random);
    costs.free_bytes = static_cast<int64_t>(100 * uniform(random));
    const std::vector<ShadowPrice> prices = Prices(values, costs);
    const ShadowPrice& chosen = ChooseShadows(prices, costs);
    (chosen.shadows > 0 ? some : none) += 1;
    EXPECT_LE(chosen.bytes, costs.free_bytes);
    for (const ShadowPrice& price : prices) {
      EXPECT_LE(chosen.seconds(), price.seconds() + kWorthwhileShadows + 1e-12);
      EXPECT_EQ(price.bytes, price.shadows * costs.shadow_bytes);
      EXPECT_LE(price.moves, price.copies);
      EXPECT_LE(price.copies, price.shadows * kRanks);
      EXPECT_LE(price.shadows, kExperts - kExperts / kRanks);
      EXPECT_LE(price.imbalance, prices[0].imbalance);
    }
  }
  EXPECT_GT(some, 0);
  EXPECT_GT(none, 0);
}

}  // namespace
}  // namespace unipool
