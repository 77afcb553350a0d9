// Where new layers go, and what becomes of names, moments and state.
#include "launcher/experts/depth_change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/router.h"

namespace unipool {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// Values tell the layer.
SavedModel Example(int layers) {
  SavedModel model;
  model.config.mutable_model()->set_layers(layers);
  model.config.mutable_parallel()->add_layers_per_stage(layers);
  model.weights["model.norm.weight"] = {{2}, {{{7, 7}, {8, 8}, {9, 9}}}};
  for (int l = 0; l < layers; ++l) {
    const auto value = static_cast<float>(l + 1);
    for (const char* part : {"self_attn.o_proj.weight", "self_attn.q_proj.weight", "mlp.router.scale"}) {
      model.weights["model.layers." + std::to_string(l) + "." + part] = {
          {1}, {{{value}, {10 * value}, {100 * value}}}};
    }
  }
  SavedModel::State& state = model.state["importance.v1"];
  state.shape = {2, layers, 3};
  for (int i = 0; i < 2 * layers * 3; ++i) state.values.push_back(i);
  return model;
}

TEST(DepthChange, NewLayersGoBehindTheLaterHalf) {
  EXPECT_THAT(PlacesOfNewLayers(12, 1), ElementsAre(11));
  EXPECT_THAT(PlacesOfNewLayers(12, 2), ElementsAre(8, 11));
  EXPECT_THAT(PlacesOfNewLayers(12, 6), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(PlacesOfNewLayers(4, 4), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(PlacesOfNewLayers(1, 3), ElementsAre(0, 0, 0));
  for (int layers = 1; layers < 9; ++layers) {
    for (int added = 1; added < 20; ++added) {
      const std::vector<int64_t> places = PlacesOfNewLayers(layers, added);
      EXPECT_EQ(static_cast<int>(places.size()), added);
      EXPECT_TRUE(std::is_sorted(places.begin(), places.end()));
      EXPECT_EQ(places.back(), layers - 1);
      EXPECT_GE(places.front(), 0);
    }
  }
}

TEST(DepthChange, ANewLayerCopiesTheOneBeforeItAndIsSilent) {
  SavedModel model = Example(2);
  InsertLayers(model, {0});
  EXPECT_EQ(model.config.model().layers(), 3);
  EXPECT_EQ(model.config.parallel().layers_per_stage_size(), 0);
  EXPECT_EQ(model.weights.size(), 10u);
  EXPECT_THAT(model.weights["model.layers.1.self_attn.q_proj.weight"].values[0], ElementsAre(1));
  EXPECT_THAT(model.weights["model.layers.1.self_attn.q_proj.weight"].values[1], ElementsAre(0));
  EXPECT_THAT(model.weights["model.layers.1.self_attn.q_proj.weight"].values[2], ElementsAre(0));
  EXPECT_THAT(model.weights["model.layers.1.self_attn.o_proj.weight"].values[0], ElementsAre(0));
  EXPECT_THAT(model.weights["model.layers.1.mlp.router.scale"].values[0],
              ElementsAre(static_cast<float>(Router::kLeastScale)));
  EXPECT_THAT(model.weights["model.layers.0.mlp.router.scale"].values[0], ElementsAre(1));
  EXPECT_THAT(model.weights["model.layers.2.mlp.router.scale"].values[2], ElementsAre(200));
  EXPECT_THAT(model.weights["model.norm.weight"].values[1], ElementsAre(8, 8));
  EXPECT_THAT(model.state["importance.v1"].shape, ElementsAre(2, 3, 3));
  EXPECT_THAT(model.state["importance.v1"].values,
              ElementsAre(0, 1, 2, 0, 0, 0, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 10, 11));
}

TEST(DepthChange, LayersThatAreDroppedAreGone) {
  SavedModel model = Example(4);
  DropLayers(model, {0, 2});
  EXPECT_EQ(model.config.model().layers(), 2);
  EXPECT_EQ(model.weights.size(), 7u);
  EXPECT_THAT(model.weights["model.layers.0.self_attn.q_proj.weight"].values[0], ElementsAre(2));
  EXPECT_THAT(model.weights["model.layers.1.self_attn.o_proj.weight"].values[2], ElementsAre(400));
  EXPECT_THAT(model.state["importance.v1"].values, ElementsAre(3, 4, 5, 9, 10, 11, 15, 16, 17, 21, 22, 23));
}

TEST(DepthChange, WhatCannotBeIsASentence) {
  Config config;
  EXPECT_EQ(WhyNotDepth(config, true), "");
  config.mutable_moe()->set_router(RouterType::SOFTMAX);
  EXPECT_THAT(WhyNotDepth(config, true), HasSubstr("has no scale"));
  EXPECT_EQ(WhyNotDepth(config, false), "");
  config.mutable_moe()->set_sharing(Sharing::PRIVATE);
  EXPECT_THAT(WhyNotDepth(config, false), HasSubstr("experts of their own"));
}

}  // namespace
}  // namespace unipool
