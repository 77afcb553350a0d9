// config.json: every setting of the model under the key by which others look for it.
#include "launcher/checkpoints/hf_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/config.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

// No two numbers are equal, so that a key with another setting's value is seen.
TEST(HuggingFaceConfigText, EachKeyHasItsSetting) {
  const Config config = ParseConfig(
      "model { layers: 3 hidden: 40 heads: 5 kv_heads: 1 seq_length: 17 vocab: 250 vocab_multiple: 64 "
      "rope_base: 1234"
      "  norm_eps: 0.5 init_std: 0.25 }"
      "moe { experts: 12 top_k: 2 width: 24 router: NORM router_constant: 1.5 sharing: GROUPED groups: 6"
      "  balance: LAYER_LOSS balance_coeff: 0.125 balance_scope: RANK balance_counts: POSITIVE "
      "  balance_hinge: true bias_scope: LAYER }",
      "settings");
  const Json expected = {{"architectures", {"UniPoolForCausalLM"}},
                         {"model_type", "unipool"},
                         {"vocab_size", 256},  // rows of the tables: 250 tokens, padded to a multiple of 64
                         {"num_tokens", 250},
                         {"hidden_size", 40},
                         {"intermediate_size", 24},
                         {"num_hidden_layers", 3},
                         {"num_attention_heads", 5},
                         {"num_key_value_heads", 1},
                         {"head_dim", 8},
                         {"max_position_embeddings", 17},
                         {"rope_theta", 1234.0},
                         {"rms_norm_eps", 0.5},
                         {"initializer_range", 0.25},
                         {"hidden_act", "silu"},
                         {"attention_bias", false},
                         {"mlp_bias", false},
                         {"tie_word_embeddings", false},
                         {"torch_dtype", "float32"},
                         {"num_experts", 12},
                         {"num_experts_per_tok", 2},
                         {"moe_intermediate_size", 24},
                         {"expert_sharing", "GROUPED"},
                         {"expert_groups", 6},
                         {"expert_band", 0},
                         {"router_type", "NORM"},
                         {"router_constant", 1.5},
                         {"load_balance", "LAYER_LOSS"},
                         {"load_balance_coeff", 0.125},
                         {"load_balance_scope", "RANK"},
                         {"load_balance_counts", "POSITIVE"},
                         {"load_balance_hinge", true},
                         {"load_balance_bias_scope", "LAYER"}};
  const std::string text = HuggingFaceConfigText(config);
  EXPECT_EQ(Json::parse(text), expected) << Json::diff(expected, Json::parse(text)).dump(2);
  EXPECT_EQ(text.back(), '\n');
}

// The file lies beside weights for years; the order of its keys is not to change with a library's.
TEST(HuggingFaceConfigText, KeysKeepTheirOrder) {
  const std::string text = HuggingFaceConfigText(Config());
  EXPECT_LT(text.find("architectures"), text.find("vocab_size"));
  EXPECT_LT(text.find("vocab_size"), text.find("hidden_size"));
  EXPECT_LT(text.find("hidden_size"), text.find("num_experts"));
}

}  // namespace
}  // namespace unipool
