// Biases of the choice: their direction, their groups, and their way to files and back.
#include "models/router_bias.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

// Four layers in two groups; each group sees two experts of four.
ModelSpec SpecOfTwoGroups() {
  ModelSpec spec;
  spec.layers = 4;
  spec.experts = 4;
  spec.visible = {{1, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 1}, {0, 0, 1, 1}};
  spec.balance_group = {0, 0, 1, 1};
  spec.num_balance_groups = 2;
  return spec;
}

std::vector<double> BiasOf(const RouterBias& bias, int layer) {
  const Tensor values = bias.of(layer);
  return {values.as<double>(), values.as<double>() + values.size()};
}

class RouterBiasTest : public testing::Test {
 protected:
  const ModelSpec spec_ = SpecOfTwoGroups();
  MemoryMeter memory_;
  Stream stream_{memory_};
  RouterBias bias_{spec_, {.balance = Balance::BIAS, .coeff = 0.25}, DType::kF64, stream_, memory_};
};

TEST_F(RouterBiasTest, RisesBelowTheMeanAndFallsAboveIt) {
  bias_.Update(std::vector<double>{1, 3, 0, 0, 0, 2, 0, 0, 0, 0, 1, 3, 0, 0, 2, 0});
  EXPECT_EQ(BiasOf(bias_, 0), (std::vector<double>{0.25, -0.25, 0, 0}));
  EXPECT_EQ(BiasOf(bias_, 1), BiasOf(bias_, 0)) << "layers of a group share its biases";
  EXPECT_EQ(BiasOf(bias_, 2), (std::vector<double>{0, 0, 0, 0})) << "even loads change nothing";
  bias_.Update(std::vector<double>{0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0});
  EXPECT_EQ(BiasOf(bias_, 0), (std::vector<double>{0, 0, 0, 0}));
  EXPECT_EQ(BiasOf(bias_, 3), (std::vector<double>{0, 0, 0.25, -0.25}));
}

TEST_F(RouterBiasTest, ReachesTheStreamOnlyWhenSent) {
  const std::vector<DiskTensor> tensors = bias_.DiskTensors({2, 4});
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "model.layers.2.mlp.router.bias");
  EXPECT_EQ(tensors[1].value.data, tensors[0].value.data) << "one memory for a group";
  tensors[0].value.as<double>()[3] = 7;
  EXPECT_EQ(BiasOf(bias_, 2)[3], 0);
  bias_.Send();
  EXPECT_EQ(BiasOf(bias_, 2)[3], 7);
}

TEST(RouterBias, OfLayersFollowTheirOwnLoad) {
  const ModelSpec spec = SpecOfTwoGroups();
  MemoryMeter memory;
  Stream stream(memory);
  RouterBias bias(spec, {.balance = Balance::BIAS, .coeff = 0.25, .bias_scope = BiasScope::LAYER},
                  DType::kF64, stream, memory);
  bias.Update(std::vector<double>{1, 3, 0, 0, 2, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0});
  EXPECT_EQ(BiasOf(bias, 0), (std::vector<double>{0.25, -0.25, 0, 0}));
  EXPECT_EQ(BiasOf(bias, 1), (std::vector<double>{-0.25, 0.25, 0, 0}));
  EXPECT_EQ(BiasOf(bias, 2), (std::vector<double>{0, 0, 0, 0}));
  const std::vector<DiskTensor> tensors = bias.DiskTensors({0, 4});
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[1].name, "model.layers.1.mlp.router.layer_bias");
  EXPECT_NE(tensors[1].value.data, tensors[0].value.data);
  EXPECT_EQ(tensors[1].value.as<double>()[1], 0.25);
  EXPECT_EQ(bias.reach(), BiasReach::kEveryScore);
}

// Layers of one group see different experts: the mean is over all that the group sees.
TEST(RouterBias, OfLayersThatSeeDifferentParts) {
  ModelSpec spec;
  spec.layers = 2;
  spec.experts = 4;
  spec.visible = {{1, 1, 0, 0}, {0, 1, 0.5, 0}};
  spec.balance_group = {0, 0};
  spec.num_balance_groups = 1;
  MemoryMeter memory;
  Stream stream(memory);
  RouterBias bias(spec, {.balance = Balance::BIAS, .coeff = 0.5, .counts = BalanceCounts::POSITIVE},
                  DType::kF64, stream, memory);
  bias.Update(std::vector<double>{2, 0, 0, 0, 0, 3, 1, 0});
  EXPECT_EQ(BiasOf(bias, 1), (std::vector<double>{0, -0.5, 0.5, 0})) << "loads 2, 3, 1 of three experts";
  EXPECT_EQ(bias.reach(), BiasReach::kPositiveScores);
}

TEST(RouterBias, IsNothingWithALoss) {
  const ModelSpec spec = SpecOfTwoGroups();
  MemoryMeter memory;
  Stream stream(memory);
  RouterBias bias(spec, {.balance = Balance::POOL_LOSS, .coeff = 0.25}, DType::kF64, stream, memory);
  bias.Update(std::vector<double>(16, 1));
  EXPECT_TRUE(bias.of(0).empty());
  EXPECT_TRUE(bias.DiskTensors({0, 4}).empty());
}

}  // namespace
}  // namespace unipool
