#include "launcher/interop/hf_texts.h"

#include <nlohmann/json.hpp>

#include "launcher/config.h"
#include "launcher/interop/hf_tensors.h"
#include "launcher/version.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

Json TokenOrNull(int32_t token) {
  return token < 0 ? Json() : Json(token);
}

void Add(const Json& more, Json& json) {
  for (const auto& [key, value] : more.items()) json[key] = value;
}

// What Llama's, Qwen2-MoE's and our class have under the same names.
Json CommonKeys(const HfTextInput& input) {
  const ModelSpec& spec = input.spec;
  return {{"architectures", {ClassNameOf(input.choice.architecture)}},
          {"model_type", ModelTypeOf(input.choice.architecture)},
          {"vocab_size", spec.vocab},
          {"hidden_size", spec.hidden},
          {"intermediate_size", spec.expert_width},
          {"num_hidden_layers", spec.layers},
          {"num_attention_heads", spec.heads},
          {"num_key_value_heads", spec.kv_heads},
          {"head_dim", spec.head_size()},
          {"hidden_act", "silu"},
          {"max_position_embeddings", spec.seq_length},
          {"rope_theta", spec.rope_base},
          // Versions 5 read this instead.
          {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", spec.rope_base}}},
          {"rms_norm_eps", spec.norm_eps},
          {"initializer_range", spec.init_std},
          {"tie_word_embeddings", false},
          {"attention_dropout", 0.0},
          {"use_cache", true},
          {"torch_dtype", input.dtype},
          {"dtype", input.dtype},
          {"bos_token_id", TokenOrNull(input.end_of_text)},
          {"eos_token_id", TokenOrNull(input.end_of_text)},
          {"pad_token_id", TokenOrNull(input.end_of_text)}};
}

Json LlamaKeys() {
  return {{"attention_bias", false}, {"mlp_bias", false}, {"pretraining_tp", 1}};
}

Json Qwen2MoeKeys(const ModelSpec& spec) {
  return {{"decoder_sparse_step", 1},
          {"mlp_only_layers", Json::array()},
          {"num_experts", spec.num_visible(0)},
          {"num_experts_per_tok", spec.top_k},
          {"norm_topk_prob", false},
          {"moe_intermediate_size", spec.expert_width},
          {"shared_expert_intermediate_size", kSharedExpertWidth},
          {"router_aux_loss_coef", 0.0},
          {"output_router_logits", false},
          {"qkv_bias", true},  // they are zero, so that versions that always have biases load too
          {"use_sliding_window", false},
          {"sliding_window", nullptr},
          {"max_window_layers", spec.layers}};
}

Json UniPoolKeys(const HfTextInput& input) {
  const ModelSpec& spec = input.spec;
  const MoeConfig& moe = input.config.moe();
  return {{"auto_map",
           {{"AutoConfig", "configuration_unipool.UniPoolConfig"},
            {"AutoModel", "modeling_unipool.UniPoolModel"},
            {"AutoModelForCausalLM", "modeling_unipool.UniPoolForCausalLM"}}},
          {"num_experts", spec.experts},
          {"num_experts_per_tok", spec.top_k},
          {"moe_intermediate_size", spec.expert_width},
          {"expert_sharing", Sharing::Value_Name(moe.sharing())},
          {"expert_groups", moe.groups()},
          {"expert_band", moe.band()},
          {"router_type", RouterType::Value_Name(moe.router())},
          {"router_constants", spec.router_constant},
          {"router_bias", input.has_bias},
          {"router_bias_scope", BiasScope::Value_Name(moe.bias_scope())},
          {"router_bias_on_positive", moe.balance_counts() == BalanceCounts::POSITIVE},
          {"router_attenuated", input.is_attenuated}};
}

// Without the folders of the machine that trained.
Config Published(Config config) {
  const auto cut = [](std::string& path) {
    const size_t slash = path.rfind('/'), blank = path.find(' ');
    if (slash == path.npos) return;
    const bool has_weight = blank != path.npos && path.find_first_not_of("0123456789.") == blank;
    path = (has_weight ? path.substr(0, blank + 1) : "") + path.substr(slash + 1);
  };
  for (std::string& path : *config.mutable_data()->mutable_train()) cut(path);
  for (std::string& path : *config.mutable_data()->mutable_valid()) cut(path);
  cut(*config.mutable_run_dir());
  cut(*config.mutable_train()->mutable_init_from());
  return config;
}

}  // namespace

std::string HfConfigJson(const HfTextInput& input) {
  Json json = CommonKeys(input);
  switch (input.choice.architecture) {
    case HfArchitecture::kLlama:
      Add(LlamaKeys(), json);
      break;
    case HfArchitecture::kQwen2Moe:
      Add(Qwen2MoeKeys(input.spec), json);
      break;
    case HfArchitecture::kUniPool:
      Add(UniPoolKeys(input), json);
      break;
  }
  return json.dump(2) + "\n";
}

std::string HfGenerationJson(const HfTextInput& input) {
  const Json token = TokenOrNull(input.end_of_text);
  return Json{{"bos_token_id", token}, {"eos_token_id", token}, {"pad_token_id", token}, {"do_sample", false}}
             .dump(2) +
         "\n";
}

std::string HfTokenizerConfigJson(const HfTextInput& input) {
  Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"model_max_length", input.spec.seq_length},
               {"clean_up_tokenization_spaces", false}};
  if (input.end_of_text >= 0) {
    for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) json[key] = "<|endoftext|>";
  }
  return json.dump(2) + "\n";
}

std::string LoadingLine(HfArchitecture architecture, const std::string& folder) {
  const bool has_code = architecture == HfArchitecture::kUniPool;
  return "from transformers import AutoModelForCausalLM; model = AutoModelForCausalLM.from_pretrained(" +
         nlohmann::json(folder).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         (has_code ? ", trust_remote_code=True)" : ")");
}

std::string ModelCard(const HfTextInput& input) {
  const ModelSpec& spec = input.spec;
  std::string text =
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- unipool\n---\n\n";
  text += "# " + input.name + "\n\n";
  text +=
      Format("A language model of %d layers with %d experts of width %d, %d for each token, hidden size %d, ",
             spec.layers, spec.experts, spec.expert_width, spec.top_k, spec.hidden);
  text += Format("%d tokens of context, %d tokens of vocabulary, written by the UniPool runtime (%s).\n\n",
                 spec.seq_length, spec.vocab, ProgramVersion().c_str());
  text += std::string("It is a ") + ClassNameOf(input.choice.architecture) + " in " + input.dtype +
          ", since " + input.choice.reason + ".\n\n```python\n" +
          LoadingLine(input.choice.architecture, ".") + "\n```\n\n";
  if (input.choice.architecture == HfArchitecture::kUniPool) {
    text +=
        "All layers choose from one pool of experts (UniPool, arXiv 2605.06665). The code lies beside the "
        "weights: `configuration_unipool.py`, `modeling_unipool.py`.\n\n";
  }
  if (!input.has_tokenizer)
    text += "No tokenizer is here, since the checkpoint had none: the model takes and gives token ids.\n\n";
  text +=
      "`export.json` has a digest of each tensor: XXH3 of 64 bits over its bytes. `unipool.txtpb` has the "
      "settings with which `unipool import` goes on.\n\n";
  text += "## Settings of the run\n\n```\n" + ResolvedConfigText(Published(input.config)) + "```\n";
  return text;
}

}  // namespace unipool
