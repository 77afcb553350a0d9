// What stays of a saved model: names, rows, moments, state and the fitted scale.
#include "launcher/experts/pool_shrinking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/router_scores.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::ElementsAre;

// Two layers, four experts; values tell where they come from.
SavedModel Example() {
  SavedModel model;
  Config& config = model.config;
  config.mutable_model()->set_layers(2);
  config.mutable_moe()->set_experts(4);
  model.step = 9;
  model.training_state = R"({"step": 9, "norm_ratios": [0.5, 0.25]})";
  for (int i = 0; i < 4; ++i) {
    const auto value = static_cast<float>(i);
    model.weights["model.pool.experts." + std::to_string(i) + ".up_proj.weight"] = {
        {1}, {{{value}, {value + 10}, {value + 20}}}};
  }
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    model.weights[std::string(layer) + "mlp.router.weight"] = {
        {4, 2}, {{{0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5}, {0, 0, 1, 1, 2, 2, 3, 3}, {4, 4, 5, 5, 6, 6, 7, 7}}}};
    model.weights[std::string(layer) + "mlp.router.bias"] = {{4}, {{{0, 1, 2, 3}, {}, {}}}};
    model.weights[std::string(layer) + "mlp.router.layer_bias"] = {{4}, {{{4, 5, 6, 7}, {}, {}}}};
    model.weights[std::string(layer) + "mlp.router.scale"] = {{1}, {{{2}, {3}, {4}}}};
    model.weights[std::string(layer) + "mlp.router.attenuation"] = {{4}, {{{0, 1, 0, 1}, {}, {}}}};
  }
  model.state["importance.v1"] = {{1, 2, 4}, {0, 1, 2, 3, 4, 5, 6, 7}};
  model.state["importance.v1.steps"] = {{2}, {5, 6}};
  model.state["balance.step_shares"] = {{1, 4}, {0.5, 0.125, 0.25, 0.125}};
  model.state["balance.step_shares.step"] = {{1}, {8}};
  return model;
}

void ExpectSecondAndLast(SavedModel& model) {
  EXPECT_EQ(model.config.moe().experts(), 2);
  EXPECT_THAT(model.weights["model.pool.experts.0.up_proj.weight"].values[0], ElementsAre(1));
  EXPECT_THAT(model.weights["model.pool.experts.1.up_proj.weight"].values[2], ElementsAre(23));
  EXPECT_EQ(model.weights.count("model.pool.experts.2.up_proj.weight"), 0u);
  const SavedModel::Weight& router = model.weights["model.layers.1.mlp.router.weight"];
  EXPECT_THAT(router.shape, ElementsAre(2, 2));
  EXPECT_THAT(router.values[0], ElementsAre(1, 1.5, 3, 3.5));
  EXPECT_THAT(router.values[2], ElementsAre(5, 5, 7, 7));
  EXPECT_THAT(model.weights["model.layers.0.mlp.router.bias"].values[0], ElementsAre(1, 3));
  EXPECT_THAT(model.weights["model.layers.0.mlp.router.layer_bias"].values[0], ElementsAre(5, 7));
  EXPECT_FALSE(HasMoments("model.layers.0.mlp.router.layer_bias"));
  EXPECT_TRUE(HasMoments("model.layers.0.mlp.router.weight"));
  EXPECT_EQ(model.weights.count("model.layers.0.mlp.router.attenuation"), 0u);
  const double constants = RouterConstant(4, 1) / RouterConstant(2, 1);
  EXPECT_NEAR(model.weights["model.layers.0.mlp.router.scale"].values[0][0], 2 * constants * 0.5, 1e-5);
  EXPECT_NEAR(model.weights["model.layers.1.mlp.router.scale"].values[0][0], 2 * constants * 0.25, 1e-5);
  EXPECT_THAT(model.weights["model.layers.1.mlp.router.scale"].values[1], ElementsAre(3));
  EXPECT_THAT(model.state["importance.v1"].values, ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(model.state["importance.v1.steps"].values, ElementsAre(5, 6));
  EXPECT_THAT(model.state["balance.step_shares"].values, ElementsAre(0.5, 0.5));
  EXPECT_THAT(model.state["balance.step_shares"].shape, ElementsAre(1, 2));
  EXPECT_THAT(model.state["balance.step_shares.step"].values, ElementsAre(8));
}

TEST(PoolShrinking, TakesTheOthersOut) {
  SavedModel model = Example();
  ShrinkPool(model, {1, 3}, {0.5, 0.25});
  ExpectSecondAndLast(model);
}

TEST(PoolShrinking, OfACheckpointWhoseOthersHaveFaded) {
  SavedModel model = Example();
  model.config.mutable_moe()->set_shrink_to(2);
  ShrinkFaded(model);
  ExpectSecondAndLast(model);
}

TEST(PoolShrinking, RefusesACheckpointWhoseOthersHaveNot) {
  SavedModel model = Example();
  model.config.mutable_moe()->set_shrink_to(3);
  EXPECT_THROW(ShrinkFaded(model), UserError);
  model = Example();
  model.config.mutable_moe()->set_shrink_to(2);
  model.training_state = R"({"step": 9})";
  EXPECT_THROW(ShrinkFaded(model), UserError);
}

}  // namespace
}  // namespace unipool
