// What `info` prints, from presets to text and JSON.
#include "launcher/info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "launcher/config.h"
#include "launcher/reports/readable_number.h"

namespace unipool {
namespace {

using testing::HasSubstr;

Config Preset(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return LoadConfig(UNIPOOL_SOURCE_DIR "/configs/" + name + ".txtpb", overrides);
}

TEST(Info, PresetsHaveThePublishedTotals) {
  const std::map<std::string, std::string> totals = {
      {"182m", "777.9M"}, {"469m", "2.588B"}, {"650m", "3.834B"}, {"830m", "5.081B"}, {"978m", "5.742B"}};
  for (const auto& [scale, total] : totals) {
    EXPECT_EQ(FormatCount(InfoJson(Preset("unipool_" + scale), 1)["parameters"]["total"]), total);
    EXPECT_THAT(InfoText(Preset("unipool_" + scale), 1), HasSubstr(total));
    EXPECT_THAT(InfoText(Preset("unipool_" + scale), 1),
                HasSubstr("50257 padded to 51200 rows, a multiple of 1024"));
    // The same experts in private blocks; only the scales of NormRouter are missing.
    const auto pooled = InfoJson(Preset("unipool_" + scale), 1)["parameters"];
    const auto vanilla = InfoJson(Preset("vanilla_moe_" + scale), 1)["parameters"];
    EXPECT_EQ(pooled["experts"], vanilla["experts"]);
    EXPECT_EQ(pooled["total"].get<int64_t>() - Preset("unipool_" + scale).model().layers(), vanilla["total"]);
    EXPECT_EQ(Preset("vanilla_moe_" + scale).moe().experts(),
              8 * Preset("vanilla_moe_" + scale).model().layers());
  }
}

TEST(Info, DemoHasFairBaselines) {
  const auto pooled = InfoJson(Preset("demo"), 1)["parameters"];
  const auto vanilla = InfoJson(Preset("demo_vanilla"), 1)["parameters"];
  const int64_t scales = Preset("demo").model().layers();  // of NormRouter
  for (const char* kind : {"total", "active"})
    EXPECT_EQ(pooled[kind].get<int64_t>() - scales, vanilla[kind].get<int64_t>()) << kind;
  EXPECT_EQ(pooled["experts"], vanilla["experts"]);
  // The dense model has no routers; else it is as large as what a token sees, or as all of it.
  const int64_t routers = pooled["router"];
  EXPECT_EQ(pooled["active"].get<int64_t>() - routers,
            InfoJson(Preset("demo_dense"), 1)["parameters"]["active"]);
  EXPECT_EQ(pooled["total"].get<int64_t>() - routers,
            InfoJson(Preset("demo_dense", {"moe.width=1536"}), 1)["parameters"]["total"]);
  // What is no part of the model is the same.
  for (const char* name : {"demo_vanilla", "demo_dense"})
    EXPECT_EQ(Preset("demo").train().DebugString(), Preset(name).train().DebugString());
}

TEST(Info, ShowsWhatEachRankHolds) {
  const Config config = Preset("unipool_182m", {"parallel.stages=2", "parallel.layers_per_stage=6,6"});
  const nlohmann::json info = InfoJson(config, 14);
  ASSERT_EQ(info["ranks"].size(), 14u);
  int experts = 0;
  for (const auto& rank : info["ranks"]) experts += rank["experts"].get<int>();
  EXPECT_EQ(experts, 96);
  EXPECT_EQ(info["ranks"][6]["stage"], 0);
  EXPECT_EQ(info["ranks"][7]["stage"], 1);
  EXPECT_EQ(info["ranks"][7]["layers"], 6);
  const auto& memory = info["ranks"][0]["memory_bytes"];
  // A router's scale takes the room of eight numbers.
  EXPECT_EQ(memory["weights"], 4 * (info["ranks"][0]["parameters"].get<int64_t>() + 6 * 7));
  for (const auto& rank :
       info["ranks"]) {  // 7 ranks of 2 stages: what reaches them can be 14 times their share
    const int64_t even = rank["memory_bytes"]["total"], twice = rank["memory_bytes_at_imbalance_2"]["total"];
    EXPECT_LT(even, twice);
    EXPECT_LT(twice, rank["memory_bytes_worst_case"]["total"].get<int64_t>());
    EXPECT_EQ(rank["memory_bytes"]["weights"], rank["memory_bytes_worst_case"]["weights"]);
  }
  EXPECT_THAT(InfoText(config, 14), HasSubstr("14 ranks = 1 pool replicas x 2 stages x 7 data ranks"));
}

TEST(Info, ShowsTheChosenStages) {
  const Config config =
      Preset("unipool_182m", {"parallel.stages=4", "train.micro_batch=8", "parallel.head=LAST_STAGE"});
  const auto pipeline = InfoJson(config, 8)["pipeline"];
  const std::vector<int> layers = pipeline["layers_per_stage"];
  EXPECT_EQ(std::accumulate(layers.begin(), layers.end(), 0), 12);
  EXPECT_EQ(layers[3], 1) << "the head is several layers' dense work";
  EXPECT_GT(pipeline["head_in_layers"], 10.);
  EXPECT_LT(pipeline["bubble"], pipeline["bubble_of_even_layers"].get<double>() - 0.03);
  EXPECT_GT(pipeline["bubble"], 0.);
  EXPECT_TRUE(pipeline["chosen"]);
  EXPECT_THAT(InfoText(config, 8), HasSubstr("layers " + std::to_string(layers[0]) + ", "));
  const Config given = Preset("unipool_182m", {"parallel.stages=2", "parallel.layers_per_stage=7,5"});
  EXPECT_THAT(InfoText(given, 2), HasSubstr("Stages: layers 7, 5 (given;"));
  EXPECT_EQ(InfoJson(given, 2)["ranks"][0]["layers"], 7);
}

// Stages are even again, every rank holds the head's weight, and the bubble is that of layers alone.
TEST(Info, ShowsASpreadHead) {
  const auto info = [](const std::string& head) {
    return InfoJson(Preset("unipool_830m", {"parallel.stages=8", "parallel.head=" + head}), 64);
  };
  const auto last = info("LAST_STAGE"), spread = info("SPREAD"), chosen = info("AUTO_HEAD");
  EXPECT_EQ(last["pipeline"]["layers_per_stage"], (std::vector<int>{6, 6, 7, 7, 7, 7, 7, 1}));
  EXPECT_EQ(spread["pipeline"]["layers_per_stage"], std::vector<int>(8, 6));
  EXPECT_NEAR(last["pipeline"]["bubble"], 0.335, 0.001);
  EXPECT_LE(spread["pipeline"]["bubble"], 0.18);
  EXPECT_EQ(spread["pipeline"]["bubble_of_other_head"], last["pipeline"]["bubble"]);
  EXPECT_EQ(last["pipeline"]["bubble_of_other_head"], spread["pipeline"]["bubble"]);
  EXPECT_EQ(chosen["pipeline"]["head"], "SPREAD");
  EXPECT_TRUE(chosen["pipeline"]["head_chosen"]);
  EXPECT_FALSE(spread["pipeline"]["head_chosen"]);
  EXPECT_EQ(chosen["ranks"], spread["ranks"]);
  const int64_t weight = int64_t{51200} * 1024;
  EXPECT_EQ(spread["parameters"], last["parameters"]) << "of the model, once";
  EXPECT_EQ(spread["ranks"][1]["parameters"].get<int64_t>(),
            last["ranks"][1]["parameters"].get<int64_t>() + weight);
  const auto bytes = [](const nlohmann::json& of, const char* kind) {
    return of["ranks"][1]["memory_bytes"][kind].get<int64_t>();
  };
  EXPECT_EQ(bytes(spread, "weights"), bytes(last, "weights") + 4 * weight);
  EXPECT_EQ(bytes(spread, "gradients"), bytes(last, "gradients") + 4 * weight);
  EXPECT_EQ(bytes(spread, "optimizer"), bytes(last, "optimizer") + 8 * weight / 64);
  EXPECT_THAT(InfoText(Preset("unipool_830m", {"parallel.stages=8"}), 64),
              HasSubstr("Head: SPREAD (chosen), every stage computes a share of the tokens\n"
                        "Predicted bubble with parallel.head=LAST_STAGE: 33.5 %\n"));
}

TEST(Info, LinesFitATerminal) {
  const Config config = Preset("unipool_978m", {"parallel.stages=4", "parallel.pool_replicas=2"});
  std::istringstream lines(InfoText(config, 64));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_LE(line.size(), 80U) << line;
  EXPECT_GT(count, 20);
}

TEST(Info, OfCudaSaysWithWhichSizesItReckons) {
  EXPECT_THAT(InfoText(Preset("unipool_182m", {"device=CUDA"}), 1),
              HasSubstr("weight gradients of 4 slots at once"));
  EXPECT_THAT(InfoText(Preset("unipool_182m", {"device=CUDA", "train.weight_grad_slots=8"}), 1),
              HasSubstr("weight gradients of 8 slots at once"));
  EXPECT_THAT(InfoText(Preset("unipool_182m", {"device=CUDA"}), 1), HasSubstr("logits of 5120 tokens"));
  EXPECT_THAT(InfoText(Preset("unipool_182m", {"device=CUDA", "train.head_tokens=512"}), 1),
              HasSubstr("logits of 512 tokens"));
}

}  // namespace
}  // namespace unipool
