// What each member of the family resolves to: which layer may use which expert, and which layers are balanced
// together.
#include "models/model_spec.h"

#include <gtest/gtest.h>

#include "models/balance_options.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

using Rows = std::vector<std::vector<float>>;

ModelSpec SpecOf(Sharing::Value sharing, int groups, int experts, int layers) {
  return MakeModelSpec(
      ConfigOf({.sharing = sharing, .groups = groups, .experts = experts, .layers = layers}));
}

TEST(ModelSpec, OnePoolIsVisibleToAllLayers) {
  const ModelSpec spec = SpecOf(Sharing::GLOBAL, 1, 3, 2);
  EXPECT_EQ(spec.visible, (Rows{{1, 1, 1}, {1, 1, 1}}));
  EXPECT_EQ(spec.balance_group, (std::vector<int>{0, 0}));
  EXPECT_EQ(spec.router_constant, (std::vector<double>{1.7, 1.7})) << "as given";
  EXPECT_TRUE(spec.has_router);
  EXPECT_EQ(spec.padded_vocab, 13);
}

TEST(ModelSpec, GroupsAreBlocksOfLayersAndExperts) {
  const ModelSpec spec = SpecOf(Sharing::GROUPED, 2, 4, 3);
  EXPECT_EQ(spec.visible[0], spec.visible[1]);
  EXPECT_EQ(spec.visible, (Rows{{1, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 1}}));
  EXPECT_EQ(spec.balance_group, (std::vector<int>{0, 0, 1}));
  const std::vector<BalanceGroup> groups = BalanceGroupsOf(spec, Visibility(spec));
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].layers, 2);
  EXPECT_EQ(groups[1].layers, 1);
  EXPECT_EQ(groups[0].experts, 2);
}

TEST(ModelSpec, PrivateExpertsAreABlockPerLayer) {
  const ModelSpec spec = SpecOf(Sharing::PRIVATE, 1, 4, 2);
  EXPECT_EQ(spec.visible, (Rows{{1, 1, 0, 0}, {0, 0, 1, 1}}));
  EXPECT_EQ(spec.balance_group, (std::vector<int>{0, 1}));
  EXPECT_EQ(spec.num_visible(1), 2);
}

ModelSpec Sliding(int experts, int layers, int band) {
  return MakeModelSpec(
      ConfigOf({.sharing = Sharing::SLIDING, .experts = experts, .layers = layers, .band = band}));
}

TEST(ModelSpec, BandsSlideFromTheFirstExpertToTheLast) {
  const ModelSpec spec = Sliding(6, 3, 4);
  EXPECT_EQ(spec.visible, (Rows{{1, 1, 1, 1, 0, 0}, {0, 1, 1, 1, 1, 0}, {0, 0, 1, 1, 1, 1}}));
  EXPECT_EQ(spec.balance_group, (std::vector<int>{0, 0, 0})) << "all layers balance together";
  const std::vector<BalanceGroup> groups = BalanceGroupsOf(spec, Visibility(spec));
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].experts, 6) << "all that some layer sees";
  EXPECT_EQ(Sliding(6, 1, 6).visible, (Rows{{1, 1, 1, 1, 1, 1}}));
}

TEST(ModelSpec, PrivateAndGlobalAreBands) {
  EXPECT_EQ(Sliding(12, 4, 3).visible, SpecOf(Sharing::PRIVATE, 1, 12, 4).visible);
  EXPECT_EQ(Sliding(12, 4, 12).visible, SpecOf(Sharing::GLOBAL, 1, 12, 4).visible);
}

// Every size that validation lets through: each layer sees a whole band, and each expert has a layer.
TEST(ModelSpec, EveryExpertLiesInABand) {
  for (int layers = 1; layers <= 9; ++layers) {
    for (int experts = 1; experts <= 20; ++experts) {
      for (int band = (experts + layers - 1) / layers; band <= experts; ++band) {
        const ModelSpec spec = Sliding(experts, layers, band);
        for (int layer = 0; layer < layers; ++layer) ASSERT_EQ(spec.num_visible(layer), band);
        ASSERT_EQ(BalanceGroupsOf(spec, Visibility(spec))[0].experts, experts) << layers << " " << band;
      }
    }
  }
}

TEST(ModelSpec, DenseLayersHaveOneExpertAndNoRouter) {
  const ModelSpec spec = SpecOf(Sharing::DENSE, 1, 2, 2);
  EXPECT_EQ(spec.visible, (Rows{{1, 0}, {0, 1}}));
  EXPECT_FALSE(spec.has_router);
}

TEST(ModelSpec, TheRoutersConstantFollowsFromTheVisibleExperts) {
  Config config = ConfigOf({.sharing = Sharing::GROUPED, .groups = 2, .experts = 65, .layers = 2});
  config.mutable_moe()->set_router_constant(0);
  const ModelSpec spec = MakeModelSpec(config);
  EXPECT_EQ(spec.num_visible(0) + spec.num_visible(1), 65);
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(spec.router_constant[layer], RouterConstant(spec.num_visible(layer), 1));
  }
  EXPECT_NE(spec.router_constant[0], spec.router_constant[1]);
}

}  // namespace
}  // namespace unipool
