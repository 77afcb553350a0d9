#include "launcher/checkpoints/hf_config.h"

#include <nlohmann/json.hpp>

#include "models/parameter_count.h"

namespace unipool {

std::string HuggingFaceConfigText(const Config& config) {
  const ModelConfig& model = config.model();
  const MoeConfig& moe = config.moe();
  const nlohmann::ordered_json json = {
      {"architectures", {"UniPoolForCausalLM"}},
      {"model_type", "unipool"},
      {"vocab_size", PaddedVocab(model)},
      {"num_tokens", model.vocab()},
      {"hidden_size", model.hidden()},
      {"intermediate_size", moe.width()},
      {"num_hidden_layers", model.layers()},
      {"num_attention_heads", model.heads()},
      {"num_key_value_heads", model.kv_heads()},
      {"head_dim", model.hidden() / model.heads()},
      {"max_position_embeddings", model.seq_length()},
      {"rope_theta", model.rope_base()},
      {"rms_norm_eps", model.norm_eps()},
      {"initializer_range", model.init_std()},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"tie_word_embeddings", false},
      {"torch_dtype", "float32"},
      {"num_experts", moe.experts()},
      {"num_experts_per_tok", moe.top_k()},
      {"moe_intermediate_size", moe.width()},
      {"expert_sharing", Sharing::Value_Name(moe.sharing())},
      {"expert_groups", moe.groups()},
      {"expert_band", moe.band()},
      {"router_type", RouterType::Value_Name(moe.router())},
      {"router_constant", moe.router_constant()},
      {"load_balance", Balance::Value_Name(moe.balance())},
      {"load_balance_coeff", moe.balance_coeff()},
      {"load_balance_scope", BalanceScope::Value_Name(moe.balance_scope())},
      {"load_balance_counts", BalanceCounts::Value_Name(moe.balance_counts())},
      {"load_balance_hinge", moe.balance_hinge()},
      {"load_balance_bias_scope", BiasScope::Value_Name(moe.bias_scope())},
  };
  return json.dump(2) + "\n";
}

}  // namespace unipool
