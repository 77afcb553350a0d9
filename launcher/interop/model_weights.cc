#include "launcher/interop/model_weights.h"

namespace unipool {

std::string RouterPrefix(int64_t layer) {
  return "model.layers." + std::to_string(layer) + ".mlp.router.";
}

std::string ExpertPrefix(int64_t expert) {
  return "model.pool.experts." + std::to_string(expert) + ".";
}

std::map<std::string, std::vector<int64_t>> WeightShapes(const ModelSpec& spec, const std::string& bias) {
  const int64_t hidden = spec.hidden, queries = spec.heads * spec.head_size(),
                keys = spec.kv_heads * spec.head_size();
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    shapes[name] = {spec.padded_vocab, hidden};
  shapes["model.norm.weight"] = {hidden};
  for (int64_t l = 0; l < spec.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    shapes[layer + "input_layernorm.weight"] = shapes[layer + "post_attention_layernorm.weight"] = {hidden};
    shapes[layer + "self_attn.q_proj.weight"] = {queries, hidden};
    shapes[layer + "self_attn.k_proj.weight"] = shapes[layer + "self_attn.v_proj.weight"] = {keys, hidden};
    shapes[layer + "self_attn.o_proj.weight"] = {hidden, queries};
    if (!spec.has_router) continue;
    shapes[RouterPrefix(l) + "weight"] = {spec.experts, hidden};
    if (HasSigma(spec.router)) shapes[RouterPrefix(l) + "scale"] = {1};
    if (!bias.empty()) shapes[RouterPrefix(l) + bias] = {spec.experts};
  }
  for (int64_t e = 0; e < spec.experts; ++e) {
    for (const char* projection : {"gate_proj.weight", "up_proj.weight"})
      shapes[ExpertPrefix(e) + projection] = {spec.expert_width, hidden};
    shapes[ExpertPrefix(e) + "down_proj.weight"] = {hidden, spec.expert_width};
  }
  return shapes;
}

}  // namespace unipool
