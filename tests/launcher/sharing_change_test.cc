// What becomes of settings and weights. That logits stay what they were is the matter of run_import_test.py.
#include "launcher/interop/sharing_change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"
#include "launcher/interop/hf_tensors.h"
#include "launcher/interop/model_weights.h"
#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// Weights are random numbers by their names.
SavedModel Model(const std::string& moe) {
  SavedModel model{
      .config = ParseConfig(
          "model { layers: 2 hidden: 4 heads: 2 kv_heads: 1 vocab: 5 } moe { width: 3 " + moe + " }",
          "settings")};
  for (const auto& [name, shape] : WeightShapes(MakeModelSpec(model.config), BiasNameOf(model.config))) {
    SavedModel::Weight& weight = model.weights[name];
    weight.shape = shape;
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    for (int64_t i = 0; i < size; ++i)
      weight.values[0].push_back(static_cast<float>(RandomNormal(HashBytes(name), i)));
  }
  return model;
}
constexpr char kDense[] = "sharing: DENSE experts: 2 balance: NONE";

const std::vector<float>& Values(const SavedModel& model, const std::string& name) {
  return model.weights.at(name).values[0];
}

std::string ProblemOf(const std::string& moe, const SharingOptions& options) {
  SavedModel model = Model(moe);
  try {
    ChangeSharing(options, model);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(SharingChange, OneFfnForEachLayerIsAnExpertOfTheWholeWeight) {
  const SavedModel before = Model(kDense);
  SavedModel model = before;
  EXPECT_TRUE(ChangeSharing({.as = ImportAs::kPool}, model).is_exact);
  const MoeConfig& moe = model.config.moe();
  EXPECT_EQ(moe.sharing(), Sharing::GLOBAL);
  EXPECT_EQ(moe.experts(), 2);
  EXPECT_EQ(moe.router(), RouterType::SOFTMAX);
  EXPECT_THAT(Values(model, "model.layers.1.mlp.router.attenuation"), ElementsAre(0, 1));
  for (const auto& [name, weight] : before.weights) EXPECT_EQ(Values(model, name), weight.values[0]) << name;
  for (const auto& [name, shape] : WeightShapes(MakeModelSpec(model.config), ""))
    EXPECT_EQ(model.weights.at(name).shape, shape) << name;
}

TEST(SharingChange, CopiesFollowTheirLayer) {
  const SavedModel before = Model(kDense);
  SavedModel pool = before, own = before;
  EXPECT_TRUE(ChangeSharing({.as = ImportAs::kPool, .experts = 5}, pool).is_exact);
  EXPECT_TRUE(ChangeSharing({.as = ImportAs::kPrivate, .experts = 4}, own).is_exact);
  EXPECT_THAT(Values(pool, "model.layers.0.mlp.router.attenuation"), ElementsAre(1, 0, 1, 0, 1));
  EXPECT_EQ(Values(pool, "model.pool.experts.4.up_proj.weight"),
            Values(before, "model.pool.experts.0.up_proj.weight"));
  EXPECT_EQ(Values(own, "model.pool.experts.3.gate_proj.weight"),
            Values(before, "model.pool.experts.1.gate_proj.weight"));
  EXPECT_FALSE(own.weights.contains("model.layers.0.mlp.router.attenuation"));
  std::vector<float> doubled = Values(before, "model.pool.experts.1.down_proj.weight");
  for (float& x : doubled) x *= 2;
  EXPECT_EQ(Values(own, "model.pool.experts.2.down_proj.weight"), doubled);
  EXPECT_EQ(own.config.moe().router(), RouterType::SIGMOID);
  EXPECT_THAT(Values(own, "model.layers.0.mlp.router.weight"), Each(0));
}

TEST(SharingChange, PrivateExpertsJoinAPool) {
  const SavedModel before = Model("sharing: PRIVATE experts: 6 top_k: 2 balance: BIAS");
  SavedModel model = before;
  EXPECT_TRUE(ChangeSharing({.as = ImportAs::kPool}, model).is_exact);
  EXPECT_THAT(Values(model, "model.layers.1.mlp.router.attenuation"), ElementsAre(0, 0, 0, 1, 1, 1));
  const std::string router = "model.layers.1.mlp.router.weight";
  EXPECT_THAT(std::vector<float>(Values(model, router).begin(), Values(model, router).begin() + 12), Each(0));
  EXPECT_TRUE(std::equal(Values(model, router).begin() + 12, Values(model, router).end(),
                         Values(before, router).begin() + 12));
  EXPECT_EQ(model.config.moe().router_constant(), MakeModelSpec(before.config).router_constant[0]);
  EXPECT_EQ(Values(model, "model.layers.1.mlp.router.layer_bias"),
            Values(before, "model.layers.1.mlp.router.bias"));
  EXPECT_EQ(model.config.moe().bias_scope(), BiasScope::LAYER);

  SavedModel open = before;
  EXPECT_FALSE(ChangeSharing({.as = ImportAs::kPool, .sees_all = true}, open).is_exact);
  EXPECT_FALSE(open.weights.contains("model.layers.1.mlp.router.attenuation"));
  EXPECT_THAT(std::vector<float>(Values(open, router).begin(), Values(open, router).begin() + 12),
              Each(testing::Ne(0)));
}

TEST(SharingChange, FactorsOfALayerStay) {
  SavedModel model = Model("sharing: PRIVATE experts: 4");
  SavedModel::Weight& factors = model.weights["model.layers.0.mlp.router.attenuation"];
  factors = {.shape = {4}};
  factors.values[0] = {0.25F, 1, 0, 0};
  ChangeSharing({.as = ImportAs::kPool}, model);
  EXPECT_THAT(Values(model, "model.layers.0.mlp.router.attenuation"), ElementsAre(0.25F, 1, 0, 0));
}

TEST(SharingChange, WhatCannotBe) {
  EXPECT_THAT(ProblemOf(kDense, {.as = ImportAs::kPool, .experts = 1}), HasSubstr("must be at least 2"));
  EXPECT_THAT(ProblemOf(kDense, {.as = ImportAs::kPrivate, .experts = 3}),
              HasSubstr("must be a multiple of 2"));
  EXPECT_THAT(ProblemOf(kDense, {.as = ImportAs::kPool, .sees_all = true}), HasSubstr("has no routers"));
  EXPECT_THAT(ProblemOf("experts: 4", {.as = ImportAs::kPrivate}), HasSubstr("share experts"));
  EXPECT_THAT(ProblemOf("experts: 4", {.as = ImportAs::kDense}), HasSubstr("it may be a pool"));
  EXPECT_THAT(ProblemOf("experts: 4", {.as = ImportAs::kPool, .experts = 5}),
              HasSubstr("the model has 4 experts"));
  EXPECT_THAT(ProblemOf("experts: 4", {.as = ImportAs::kPool, .sees_all = true}),
              HasSubstr("--visible=all: is for"));
  EXPECT_EQ(ProblemOf("experts: 4", {.as = ImportAs::kPool}), "");
  EXPECT_THROW(ImportAsNamed("moe"), UserError);
}

}  // namespace
}  // namespace unipool
