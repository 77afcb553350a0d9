// Settings and model card beside exported weights.
#include "launcher/interop/hf_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/config.h"

namespace unipool {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class HfTextsTest : public testing::Test {
 protected:
  HfTextInput Input(const std::string& moe) {
    config_ = ParseConfig(
        "run_dir: '/home/someone/runs/one' data { train: '0.7 /secret/place/books' train: 'plain.txt' }"
        "model { layers: 4 hidden: 40 heads: 5 kv_heads: 1 seq_length: 17 vocab: 250 vocab_multiple: 64"
        "  rope_base: 1234 norm_eps: 0.5 init_std: 0.25 }"
        "moe { width: 24 top_k: 2 " +
            moe + (moe.find("experts:") == moe.npos ? " experts: 12 }" : " }"),
        "settings");
    spec_ = MakeModelSpec(config_);
    return {.choice = ChooseHfArchitecture(config_, /*is_attenuated=*/false),
            .config = config_,
            .spec = spec_,
            .end_of_text = 249,
            .name = "one",
            .source = "runs/one/checkpoints/step-9"};
  }

  // config.json has these keys with these values, among others.
  static void Expect(const Json& json, const Json& expected) {
    for (const auto& [key, value] : expected.items())
      EXPECT_EQ(json.value(key, Json("missing")), value) << key;
  }

  Config config_;
  ModelSpec spec_;
};

const Json kCommon = {{"vocab_size", 250},  // without the padding
                      {"hidden_size", 40},
                      {"num_hidden_layers", 4},
                      {"num_attention_heads", 5},
                      {"num_key_value_heads", 1},
                      {"head_dim", 8},
                      {"max_position_embeddings", 17},
                      {"rope_theta", 1234.0},
                      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1234.0}}},
                      {"rms_norm_eps", 0.5},
                      {"tie_word_embeddings", false},
                      {"bos_token_id", 249},
                      {"eos_token_id", 249}};

TEST_F(HfTextsTest, SettingsOfEachArchitecture) {
  const Json llama = Json::parse(HfConfigJson(Input("sharing: DENSE experts: 4")));
  Expect(llama, kCommon);
  Expect(llama, {{"architectures", Json::array({"LlamaForCausalLM"})},
                 {"model_type", "llama"},
                 {"intermediate_size", 24},
                 {"attention_bias", false},
                 {"mlp_bias", false}});
  const Json qwen = Json::parse(HfConfigJson(Input("sharing: PRIVATE router: SOFTMAX")));
  Expect(qwen, kCommon);
  Expect(qwen, {{"model_type", "qwen2_moe"},
                {"num_experts", 3},
                {"num_experts_per_tok", 2},
                {"norm_topk_prob", false},
                {"decoder_sparse_step", 1},
                {"moe_intermediate_size", 24}});
  const Json pool = Json::parse(HfConfigJson(Input("sharing: GROUPED groups: 2 router_constant: 1.5")));
  Expect(pool, kCommon);
  Expect(pool, {{"model_type", "unipool"},
                {"num_experts", 12},
                {"expert_sharing", "GROUPED"},
                {"expert_groups", 2},
                {"router_type", "NORM"},
                {"router_constants", {1.5, 1.5, 1.5, 1.5}},
                {"router_bias", false},
                {"router_bias_on_positive", false}});
  const Json positive = Json::parse(HfConfigJson(Input("balance: BIAS balance_counts: POSITIVE")));
  EXPECT_EQ(positive["router_bias_on_positive"], true);
  EXPECT_EQ(positive["router_bias_scope"], "POOL");
  HfTextInput half = Input("");
  half.dtype = "bfloat16";
  EXPECT_EQ(Json::parse(HfConfigJson(half))["torch_dtype"], "bfloat16");
  EXPECT_TRUE(pool["auto_map"].contains("AutoModelForCausalLM"));
  EXPECT_FALSE(qwen.contains("auto_map"));
}

TEST_F(HfTextsTest, ATokenizerWithoutAnEndOfTextHasNone) {
  HfTextInput input = Input("");
  EXPECT_EQ(Json::parse(HfTokenizerConfigJson(input))["eos_token"], "<|endoftext|>");
  EXPECT_EQ(Json::parse(HfGenerationJson(input))["eos_token_id"], 249);
  input.end_of_text = -1;
  EXPECT_FALSE(Json::parse(HfTokenizerConfigJson(input)).contains("eos_token"));
  EXPECT_TRUE(Json::parse(HfGenerationJson(input))["eos_token_id"].is_null());
  EXPECT_TRUE(Json::parse(HfConfigJson(input))["bos_token_id"].is_null());
}

TEST_F(HfTextsTest, TheCardHasTheRunsSettingsWithoutFolders) {
  const std::string card = ModelCard(Input("router_constant: 1.5"));
  EXPECT_THAT(card, HasSubstr("rope_base: 1234"));
  EXPECT_THAT(card, HasSubstr("UniPoolForCausalLM in float32, since "));
  EXPECT_THAT(card, HasSubstr("trust_remote_code=True"));
  EXPECT_THAT(card, HasSubstr("0.7 books"));
  EXPECT_THAT(card, HasSubstr("plain.txt"));
  EXPECT_THAT(card, Not(HasSubstr("/secret")));
  EXPECT_THAT(card, Not(HasSubstr("/home")));
  HfTextInput input = Input("sharing: DENSE experts: 4");
  EXPECT_THAT(ModelCard(input), Not(HasSubstr("trust_remote_code")));
  EXPECT_THAT(ModelCard(input), Not(HasSubstr("No tokenizer")));
  input.has_tokenizer = false;
  EXPECT_THAT(ModelCard(input), HasSubstr("No tokenizer"));
}

}  // namespace
}  // namespace unipool
