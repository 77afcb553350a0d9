#include "launcher/interop/hf_settings.h"

#include <algorithm>
#include <map>

#include "launcher/config.h"
#include "launcher/interop/json_fields.h"
#include "models/model_spec.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

// What keeps models from being computed here.
const std::map<std::string, std::string>& Reasons() {
  static const std::string heads = "it normalises queries and keys of each head (q_norm, k_norm)";
  static const std::string latent = "it compresses keys and values, and has experts that every token takes";
  static const std::string gemma = "its embeddings are scaled, its norms add 1, and its gate is a GELU";
  static const std::map<std::string, std::string> reasons = {
      {"mixtral", "it divides the weights of the chosen experts by their sum, which no router here does"},
      {"olmoe", "it normalises queries and keys over their whole width (q_norm, k_norm)"},
      {"olmo2", "it normalises queries and keys, and what leaves a layer instead of what enters it"},
      {"qwen3_moe", heads + ", and may divide the weights of the chosen experts by their sum"},
      {"qwen3", heads},
      {"qwen2", "it adds biases to queries, keys and values"},
      {"mistral", "its attention may be cut to a window of tokens"},
      {"deepseek_v2", latent},
      {"deepseek_v3", latent},
      {"gemma", gemma},
      {"gemma2", gemma},
      {"gemma3_text", gemma},
      {"phi3", "its projections stand fused in the files (qkv_proj, gate_up_proj)"},
      {"gpt2",
       "it has LayerNorm with biases, learned positions and a GELU in place of RMSNorm, RoPE and SwiGLU"},
      {"gpt_neox",
       "it has LayerNorm with biases, RoPE over a part of each head, and a GELU in place of SwiGLU"},
  };
  return reasons;
}

class Reader {
 public:
  Reader(const Json& json, std::string name)
      : json_(json), name_(std::move(name)), fields_(json, name_, problems_) {}

  HfModel Read() {
    result_.architecture = Architecture();
    Refusals();
    Sizes();
    Rope();
    switch (result_.architecture) {
      case HfArchitecture::kLlama:
        Llama();
        break;
      case HfArchitecture::kQwen2Moe:
        Qwen2Moe();
        break;
      case HfArchitecture::kUniPool:
        UniPool();
        break;
    }
    problems_.ThrowIfAny();
    Validate();
    if (result_.architecture == HfArchitecture::kUniPool) RouterConstants();
    problems_.ThrowIfAny();
    return std::move(result_);
  }

 private:
  ModelConfig& model() { return *result_.config.mutable_model(); }
  MoeConfig& moe() { return *result_.config.mutable_moe(); }

  HfArchitecture Architecture() {
    const std::string type = fields_.Text("model_type", "");
    if (type.empty()) throw UserError(name_ + ": names no model_type, so what model it is remains unknown");
    const auto reason = Reasons().find(type);
    if (reason != Reasons().end())
      throw UserError(name_ + ": model_type is " + type +
                      ", which this program does not compute: " + reason->second);
    for (const HfArchitecture architecture : kAllHfArchitectures) {
      if (type != ModelTypeOf(architecture)) continue;
      CheckClass(ClassNameOf(architecture));
      return architecture;
    }
    throw UserError(name_ + ": model_type is " + type +
                    ", which this program does not compute; it computes llama, qwen2_moe and unipool");
  }

  void CheckClass(const std::string& wanted) {
    if (!fields_.Has("architectures")) return;
    const Json& classes = json_["architectures"];
    if (classes.is_array() && std::find(classes.begin(), classes.end(), Json(wanted)) != classes.end())
      return;
    fields_.Add("architectures", "lacks " + wanted + "; other classes are no language models");
  }

  // What all three may say, and only one value of which is computed here.
  void Refusals() {
    const std::string activation = fields_.Text("hidden_act", "silu");
    if (activation != "silu" && activation != "swish")
      fields_.Add("hidden_act", "is " + activation + "; the experts here have silu");
    if (fields_.Has("quantization_config"))
      fields_.Add("quantization_config", "is there; only weights in F32, BF16 or F16 are read");
    if (fields_.Bool("use_sliding_window", false) && fields_.Has("sliding_window"))
      fields_.Add("use_sliding_window", "is true; attention here sees all earlier tokens");
    if (fields_.Real("partial_rotary_factor", 1) != 1)
      fields_.Add("partial_rotary_factor", "is not 1; whole heads are rotated here");
  }

  void Sizes() {
    model().set_vocab(fields_.Whole("vocab_size"));
    model().set_hidden(fields_.Whole("hidden_size"));
    model().set_layers(fields_.Whole("num_hidden_layers"));
    model().set_heads(fields_.Whole("num_attention_heads"));
    model().set_kv_heads(fields_.Whole("num_key_value_heads", 1, model().heads()));
    model().set_seq_length(fields_.Whole("max_position_embeddings", 1, 2048));
    model().set_norm_eps(fields_.Real("rms_norm_eps", 1e-6));
    model().set_init_std(fields_.Real("initializer_range", 0.02));
    result_.ties_embeddings = fields_.Bool("tie_word_embeddings", false);
    if (model().hidden() % model().heads() != 0) {
      fields_.Add("hidden_size",
                  Format("is %d, which %d heads do not divide", model().hidden(), model().heads()));
      return;
    }
    const int32_t head = model().hidden() / model().heads();
    if (fields_.Whole("head_dim", 1, head) != head) {
      fields_.Add("head_dim",
                  Format("is another number than hidden_size / num_attention_heads, which is %d; heads "
                         "of other sizes are not computed here",
                         head));
    }
  }

  // Versions 4 have rope_theta and rope_scaling, versions 5 rope_parameters with both.
  void Rope() {
    constexpr double kUsualBase = 10'000;
    const double base = fields_.Real("rope_theta", kUsualBase);
    model().set_rope_base(base);
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      if (!fields_.Has(key)) continue;
      if (!json_[key].is_object()) {
        fields_.Add(key, "must be an object");
        continue;
      }
      JsonFields rope(json_[key], name_ + ": " + key, problems_);
      const std::string type = rope.Text("rope_type", rope.Text("type", "default"));
      if (type != "default") rope.Add("rope_type", "is " + type + "; only default angles are computed here");
      const double other = rope.Real("rope_theta", base);
      if (fields_.Has("rope_theta") && other != base)
        rope.Add("rope_theta", Format("is %g, but rope_theta beside it is %g", other, base));
      model().set_rope_base(other);
    }
  }

  void Llama() {
    moe().set_sharing(Sharing::DENSE);
    moe().set_balance(Balance::NONE);
    moe().set_experts(model().layers());
    moe().set_width(fields_.Whole("intermediate_size"));
  }

  void Qwen2Moe() {
    if (fields_.Bool("norm_topk_prob", false)) {
      fields_.Add("norm_topk_prob",
                  "is true: the weights of the chosen experts are divided by their sum, which no "
                  "router here does");
    }
    if (fields_.Whole("decoder_sparse_step", 0, 1) != 1 || HasDenseLayers())
      fields_.Add("decoder_sparse_step, mlp_only_layers",
                  "make some layers dense; here all layers have experts, or none");
    moe().set_sharing(Sharing::PRIVATE);
    moe().set_router(RouterType::SOFTMAX);
    moe().set_balance(Balance::LAYER_LOSS);
    const double coeff = fields_.Real("router_aux_loss_coef", 0);
    if (coeff > 0) moe().set_balance_coeff(coeff);
    const int64_t experts = int64_t{fields_.Whole("num_experts")} * model().layers();
    if (experts > (1 << 17))
      fields_.Add("num_experts",
                  Format("makes %d experts in all layers; at most %d are possible", experts, 1 << 17));
    moe().set_experts(static_cast<int32_t>(std::min<int64_t>(experts, 1 << 17)));
    moe().set_top_k(fields_.Whole("num_experts_per_tok"));
    moe().set_width(fields_.Whole("moe_intermediate_size"));
    result_.shared_expert_width = fields_.Whole("shared_expert_intermediate_size", 0, 0);
  }

  bool HasDenseLayers() {
    return fields_.Has("mlp_only_layers") &&
           !(json_["mlp_only_layers"].is_array() && json_["mlp_only_layers"].empty());
  }

  template <class Value>
  Value Named(const std::string& key, const std::string& otherwise,
              bool (*parse)(const std::string&, Value*)) {
    Value value{};
    const std::string text = fields_.Text(key, otherwise);
    if (!parse(text, &value)) fields_.Add(key, "is " + text + ", which this program does not know");
    return value;
  }

  void UniPool() {
    moe().set_sharing(Named<Sharing::Value>(
        "expert_sharing", "GLOBAL",
        [](const std::string& text, Sharing::Value* value) { return Sharing::Value_Parse(text, value); }));
    moe().set_router(Named<RouterType::Value>("router_type", "NORM",
                                              [](const std::string& text, RouterType::Value* value) {
                                                return RouterType::Value_Parse(text, value);
                                              }));
    moe().set_experts(fields_.Whole("num_experts"));
    moe().set_top_k(fields_.Whole("num_experts_per_tok"));
    moe().set_width(fields_.Whole("moe_intermediate_size"));
    if (moe().sharing() == Sharing::GROUPED) moe().set_groups(fields_.Whole("expert_groups"));
    if (moe().sharing() == Sharing::SLIDING) moe().set_band(fields_.Whole("expert_band"));
    if (moe().sharing() == Sharing::DENSE) moe().set_balance(Balance::NONE);
    result_.is_attenuated = fields_.Bool("router_attenuated", false);
    if (fields_.Bool("router_bias_on_positive", false)) moe().set_balance_counts(BalanceCounts::POSITIVE);
    if (!fields_.Bool("router_bias", false)) return;
    moe().set_balance(Balance::BIAS);
    moe().set_bias_scope(Named<BiasScope::Value>("router_bias_scope", "LAYER",
                                                 [](const std::string& text, BiasScope::Value* value) {
                                                   return BiasScope::Value_Parse(text, value);
                                                 }));
  }

  void Validate() {
    try {
      ValidateConfig(result_.config, 1);
    } catch (const UserError& error) {
      for (const std::string& problem : error.problems())
        problems_.Add(name_ + ": describes a model with " + problem);
    }
    problems_.ThrowIfAny();
  }

  // One setting makes the constants of all layers.
  void RouterConstants() {
    if (moe().router() != RouterType::NORM || moe().sharing() == Sharing::DENSE) return;
    const std::vector<double> constants = fields_.Reals("router_constants");
    if (static_cast<int32_t>(constants.size()) != model().layers()) {
      fields_.Add("router_constants", Format("must be %d numbers, one for each layer", model().layers()));
      return;
    }
    if (MakeModelSpec(result_.config).router_constant == constants) return;
    if (std::adjacent_find(constants.begin(), constants.end(), std::not_equal_to<>()) != constants.end())
      return fields_.Add("router_constants", "differ between layers in a way that no settings here make");
    moe().set_router_constant(constants[0]);
    Validate();
  }

  const Json& json_;
  std::string name_;
  Problems problems_;
  JsonFields fields_;
  HfModel result_;
};

}  // namespace

HfModel HfModelOf(const Json& json, const std::string& name) {
  return Reader(json, name).Read();
}

}  // namespace unipool
