// Which neuron goes to which expert, and what becomes of the weights.
#include "launcher/interop/ffn_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"
#include "launcher/interop/model_weights.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// Two layers of six neurons: gate row j and up row j hold j, down column j holds j + 1. Layer 1 adds 10.
SavedModel Dense() {
  SavedModel model{.config = ParseConfig("model { layers: 2 hidden: 2 heads: 1 kv_heads: 1 vocab: 5 }"
                                         "moe { width: 6 experts: 2 sharing: DENSE balance: NONE }",
                                         "settings")};
  for (int layer = 0; layer < 2; ++layer) {
    const auto of = [&](float add) {
      std::vector<float> rows, columns;
      for (int j = 0; j < 6; ++j)
        rows.insert(rows.end(), 2, static_cast<float>(j) + add + 10.F * static_cast<float>(layer));
      for (int row = 0; row < 2; ++row) {
        for (int j = 0; j < 6; ++j)
          columns.push_back(static_cast<float>(j) + add + 10.F * static_cast<float>(layer));
      }
      return std::pair(rows, columns);
    };
    for (const char* part : {"gate_proj.weight", "up_proj.weight"})
      model.weights[ExpertPrefix(layer) + part] = {{6, 2}, {{of(0).first, {}, {}}}};
    model.weights[ExpertPrefix(layer) + "down_proj.weight"] = {{2, 6}, {{of(1).second, {}, {}}}};
  }
  return model;
}

std::string ProblemOf(const FfnSplit& split) {
  try {
    DealNeurons(split, std::vector<double>(6));
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(FfnSplit, NeuronsAreDealtByImportance) {
  const std::vector<double> importance = {1, 5, 3, 9, 2, 4};  // 3, 1, 5, 2, 4, 0
  EXPECT_THAT(DealNeurons({.experts = 2}, importance),
              ElementsAre(ElementsAre(3, 5, 4), ElementsAre(1, 2, 0)));
  EXPECT_THAT(DealNeurons({.experts = 2, .shared = 1}, importance),
              ElementsAre(ElementsAre(3, 1, 2), ElementsAre(3, 5, 4)));
  EXPECT_THAT(DealNeurons({.experts = 2, .shared = 2, .width = 4}, importance),
              ElementsAre(ElementsAre(3, 1, 5, 4), ElementsAre(3, 1, 2, 0)));
  EXPECT_THAT(DealNeurons({.experts = 3, .shared = 2}, importance),
              ElementsAre(ElementsAre(3, 1), ElementsAre(3, 1), ElementsAre(3, 1)));
  EXPECT_THAT(DealNeurons({.experts = 2}, std::vector<double>(6)),
              ElementsAre(ElementsAre(0, 2, 4), ElementsAre(1, 3, 5)));
}

TEST(FfnSplit, WhatDoesNotFit) {
  EXPECT_THAT(ProblemOf({.experts = 7}), HasSubstr("--parts=7: must be from 1 to 6"));
  EXPECT_THAT(ProblemOf({.experts = 0}), HasSubstr("--parts=0"));
  EXPECT_THAT(ProblemOf({.experts = 2, .shared = 4}), HasSubstr("--shared=4: must be from 0 to 3"));
  EXPECT_THAT(ProblemOf({.experts = 2, .shared = 1, .width = 4}),
              HasSubstr("need 7 neurons, and an FFN has 6; at most 3"));
  EXPECT_THAT(ProblemOf({.experts = 2, .top_k = 3}), HasSubstr("moe.top_k: is 3; must be from 1 to 2"));
}

TEST(FfnSplit, WeightsFollowTheirNeurons) {
  SavedModel model = Dense();
  const SharingChange change = SplitFfns({.experts = 2, .shared = 2, .width = 4, .top_k = 2},
                                         {{6, 5, 4, 3, 2, 1}, {1, 2, 3, 4, 5, 6}}, model);
  EXPECT_TRUE(change.is_exact);
  EXPECT_EQ(model.config.moe().experts(), 4);
  EXPECT_EQ(model.config.moe().width(), 4);
  EXPECT_EQ(model.config.moe().sharing(), Sharing::PRIVATE);
  // Layer 1: the most important ones are 5 and 4, then come 3 and 2.
  EXPECT_THAT(model.weights.at("model.pool.experts.3.up_proj.weight").values[0],
              ElementsAre(15, 15, 14, 14, 12, 12, 10, 10));
  EXPECT_THAT(model.weights.at("model.pool.experts.2.up_proj.weight").values[0],
              ElementsAre(15, 15, 14, 14, 13, 13, 11, 11));
  // Each token meets shared neurons twice, with half the weight; its own once, with half.
  EXPECT_THAT(model.weights.at("model.pool.experts.2.down_proj.weight").values[0],
              ElementsAre(16, 15, 28, 24, 16, 15, 28, 24));
  EXPECT_EQ(model.weights.at("model.pool.experts.2.down_proj.weight").values[2].size(), 8U);
  EXPECT_THAT(model.weights.at("model.layers.1.mlp.router.weight").values[0], Each(0));
  EXPECT_THAT(model.weights.at("model.layers.1.mlp.router.weight").shape, ElementsAre(4, 2));
}

TEST(FfnSplit, FewerExpertsForATokenAreAnotherModel) {
  SavedModel model = Dense();
  const SharingChange change =
      SplitFfns({.experts = 3, .shared = 1}, {{4, 1, 1, 1, 1, 0}, {4, 1, 1, 1, 1, 0}}, model);
  EXPECT_FALSE(change.is_exact);
  EXPECT_THAT(change.reason,
              HasSubstr("they hold 87.5 % of the importance, and a token gets 1 of 3 experts"));
  EXPECT_THAT(model.weights.at("model.pool.experts.0.down_proj.weight").values[0], ElementsAre(3, 6, 3, 6));
  EXPECT_EQ(model.weights.count("model.pool.experts.6.up_proj.weight"), 0U);
  EXPECT_THAT(model.weights.at("model.layers.0.mlp.router.weight").values[0],
              testing::Not(testing::Contains(0)));
}

}  // namespace
}  // namespace unipool
