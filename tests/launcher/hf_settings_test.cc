// Which settings a config.json becomes, and what is refused with its reason.
#include "launcher/interop/hf_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"
#include "launcher/interop/hf_texts.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const json kLlama = {{"model_type", "llama"},       {"vocab_size", 50},       {"hidden_size", 24},
                     {"intermediate_size", 20},     {"num_hidden_layers", 3}, {"num_attention_heads", 4},
                     {"num_key_value_heads", 2},    {"rms_norm_eps", 1e-3},   {"rope_theta", 500.0},
                     {"max_position_embeddings", 9}};

json Qwen() {
  json qwen = kLlama;
  qwen.update(json{{"model_type", "qwen2_moe"},
                   {"num_experts", 4},
                   {"num_experts_per_tok", 2},
                   {"moe_intermediate_size", 6}});
  return qwen;
}

json With(json object, const json& changes) {
  object.update(changes);
  return object;
}

std::string ProblemOf(const json& object) {
  try {
    HfModelOf(object, "config.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(HfSettings, Llama) {
  const HfModel model = HfModelOf(kLlama, "config.json");
  EXPECT_EQ(model.architecture, HfArchitecture::kLlama);
  const ModelConfig& sizes = model.config.model();
  EXPECT_EQ(sizes.vocab(), 50);
  EXPECT_EQ(sizes.hidden(), 24);
  EXPECT_EQ(sizes.layers(), 3);
  EXPECT_EQ(sizes.heads(), 4);
  EXPECT_EQ(sizes.kv_heads(), 2);
  EXPECT_EQ(sizes.seq_length(), 9);
  EXPECT_EQ(sizes.norm_eps(), 1e-3);
  EXPECT_EQ(sizes.rope_base(), 500);
  EXPECT_EQ(model.config.moe().sharing(), Sharing::DENSE);
  EXPECT_EQ(model.config.moe().experts(), 3);
  EXPECT_EQ(model.config.moe().width(), 20);
}

TEST(HfSettings, WhatIsLeftOutIsAsInTransformers) {
  json small = kLlama;
  for (const char* key : {"num_key_value_heads", "rms_norm_eps", "rope_theta"}) small.erase(key);
  const ModelConfig sizes = HfModelOf(small, "config.json").config.model();
  EXPECT_EQ(sizes.kv_heads(), 4);
  EXPECT_EQ(sizes.norm_eps(), 1e-6);
  EXPECT_EQ(sizes.rope_base(), 10000);
  small["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 70.0}};  // versions 5
  EXPECT_EQ(HfModelOf(small, "config.json").config.model().rope_base(), 70);
}

TEST(HfSettings, Qwen2Moe) {
  const HfModel model = HfModelOf(
      With(Qwen(), {{"shared_expert_intermediate_size", 16}, {"router_aux_loss_coef", 0.25}}), "config.json");
  EXPECT_EQ(model.architecture, HfArchitecture::kQwen2Moe);
  const MoeConfig& moe = model.config.moe();
  EXPECT_EQ(moe.sharing(), Sharing::PRIVATE);
  EXPECT_EQ(moe.router(), RouterType::SOFTMAX);
  EXPECT_EQ(moe.experts(), 12);
  EXPECT_EQ(moe.top_k(), 2);
  EXPECT_EQ(moe.width(), 6);
  EXPECT_EQ(moe.balance_coeff(), 0.25);
  EXPECT_EQ(model.shared_expert_width, 16);
}

TEST(HfSettings, OthersAreRefusedWithTheReason) {
  const std::pair<const char*, const char*> types[] = {
      {"mixtral", "divides the weights of the chosen experts by their sum"},
      {"olmoe", "normalises queries and keys over their whole width"},
      {"qwen3_moe", "normalises queries and keys of each head"},
      {"mamba", "it computes llama, qwen2_moe and unipool"}};
  for (const auto& [type, reason] : types) {
    EXPECT_THAT(ProblemOf(With(kLlama, {{"model_type", type}})), HasSubstr(reason));
    EXPECT_THAT(ProblemOf(With(kLlama, {{"model_type", type}})),
                HasSubstr("which this program does not compute"));
  }
  EXPECT_THAT(ProblemOf(With(kLlama, {{"model_type", nullptr}})), HasSubstr("names no model_type"));
}

TEST(HfSettings, WhatWouldBeComputedInAnotherWay) {
  const std::pair<json, const char*> changes[] = {
      {{{"hidden_act", "gelu"}}, "hidden_act is gelu"},
      {{{"quantization_config", {{"bits", 4}}}}, "quantization_config is there"},
      {{{"use_sliding_window", true}, {"sliding_window", 4}}, "use_sliding_window is true"},
      {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is not 1"},
      {{{"head_dim", 8}}, "head_dim is another number than hidden_size / num_attention_heads, which is 6"},
      {{{"hidden_size", 26}}, "hidden_size is 26, which 4 heads do not divide"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}, "rope_scaling: rope_type is linear"},
      {{{"rope_parameters", {{"rope_type", "yarn"}}}}, "rope_parameters: rope_type is yarn"},
      {{{"rope_parameters", {{"rope_theta", 1.5}}}}, "rope_theta is 1.5, but rope_theta beside it is 500"},
      {{{"rope_parameters", 3}}, "rope_parameters must be an object"},
      {{{"architectures", {"LlamaForSequenceClassification"}}}, "architectures lacks LlamaForCausalLM"},
      {{{"num_key_value_heads", 3}}, "model.heads: is 4, which is not divisible by model.kv_heads (3)"},
      {{{"num_hidden_layers", 1 << 30}}, "model.layers"},
      {{{"vocab_size", -1}, {"intermediate_size", nullptr}}, "intermediate_size is missing"}};
  for (const auto& [change, sentence] : changes)
    EXPECT_THAT(ProblemOf(With(kLlama, change)), HasSubstr(sentence)) << change;
  const std::pair<json, const char*> of_qwen[] = {
      {{{"norm_topk_prob", true}}, "norm_topk_prob is true"},
      {{{"mlp_only_layers", {1}}}, "make some layers dense"},
      {{{"decoder_sparse_step", 2}}, "make some layers dense"},
      {{{"num_experts", 1 << 20}}, "at most 131072"},
      {{{"num_experts_per_tok", 5}}, "each layer sees 4 of the 12 experts"}};
  for (const auto& [change, sentence] : of_qwen)
    EXPECT_THAT(ProblemOf(With(Qwen(), change)), HasSubstr(sentence)) << change;
}

TEST(HfSettings, ModelsOfOursComeBack) {
  for (const char* moe :
       {"", "top_k: 2 router_constant: 3.25", "sharing: GROUPED groups: 2 balance: BIAS bias_scope: POOL",
        "sharing: SLIDING band: 5", "sharing: PRIVATE experts: 12", "sharing: DENSE experts: 4 balance: NONE",
        "router: SIGMOID balance: BIAS bias_scope: LAYER balance_counts: POSITIVE",
        "router: SOFTMAX balance_counts: POSITIVE"}) {
    const std::string text = moe;
    const Config config = ParseConfig(
        "model { layers: 4 hidden: 40 heads: 5 kv_heads: 1 seq_length: 17 vocab: 250 rope_base: 1234 "
        "norm_eps: 0.5 }"
        "moe { width: 24 " +
            text + (text.find("experts:") == text.npos ? " experts: 8 }" : " }"),
        "settings");
    const ModelSpec spec = MakeModelSpec(config);
    const HfModel model =
        HfModelOf(json::parse(HfConfigJson({.choice = {HfArchitecture::kUniPool, ""},
                                            .config = config,
                                            .spec = spec,
                                            .has_bias = config.moe().balance() == Balance::BIAS})),
                  "config.json");
    Config expected = config;
    expected.mutable_model()->set_init_std(model.config.model().init_std());
    EXPECT_EQ(ResolvedConfigText(model.config), ResolvedConfigText(expected)) << moe;
  }
}

TEST(HfSettings, ConstantsThatNoSettingsMake) {
  json ours = With(kLlama, {{"model_type", "unipool"},
                            {"num_experts", 3},
                            {"num_experts_per_tok", 1},
                            {"moe_intermediate_size", 2}});
  EXPECT_THAT(ProblemOf(ours), HasSubstr("router_constants must be 3 numbers"));
  EXPECT_THAT(ProblemOf(With(ours, {{"router_constants", {1, 2, 1}}})), HasSubstr("differ between layers"));
  EXPECT_THAT(ProblemOf(With(ours, {{"router_constants", {-1, -1, -1}}})),
              HasSubstr("moe.router_constant: is -1"));
  EXPECT_THAT(ProblemOf(With(ours, {{"router_type", "LINEAR"}})), HasSubstr("router_type is LINEAR"));
  EXPECT_EQ(
      HfModelOf(With(ours, {{"router_constants", {2, 2, 2}}}), "config.json").config.moe().router_constant(),
      2);
}

}  // namespace
}  // namespace unipool
