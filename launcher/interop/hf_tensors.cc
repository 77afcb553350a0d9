#include "launcher/interop/hf_tensors.h"

#include "launcher/interop/model_weights.h"

namespace unipool {
namespace {

class TensorList {
 public:
  TensorList(HfArchitecture architecture, const ModelSpec& spec, const Visibility& visibility,
             std::string bias)
      : architecture_(architecture), spec_(spec), visibility_(visibility), bias_(std::move(bias)) {}

  std::vector<HfTensor> Make() {
    Copy("model.embed_tokens.weight", "model.embed_tokens.weight", {0, spec_.vocab});
    for (int layer = 0; layer < spec_.layers; ++layer) AddLayer(layer);
    if (architecture_ == HfArchitecture::kUniPool) {
      for (int64_t e = 0; e < spec_.experts; ++e) CopyExpert(e, ExpertPrefix(e));
    }
    Copy("model.norm.weight", "model.norm.weight");
    Copy("lm_head.weight", "lm_head.weight", {0, spec_.vocab});
    for (HfTensor& tensor : list_)  // _keep_in_fp32_modules_strict of the code in models/huggingface
      tensor.keeps_f32 = tensor.name.find(".mlp.router.") != std::string::npos;
    return std::move(list_);
  }

 private:
  void Copy(std::string name, std::string source, Range rows = {}) {
    list_.push_back({.name = std::move(name), .source = std::move(source), .rows = rows});
  }
  void CopyExpert(int64_t expert, const std::string& prefix) {
    for (const char* projection : kProjections)
      Copy(prefix + projection + ".weight", ExpertPrefix(expert) + projection + ".weight");
  }
  void Zeros(std::string name, std::vector<int64_t> shape) {
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    list_.push_back(
        {.name = std::move(name), .shape = std::move(shape), .values = std::vector<float>(size, 0.f)});
  }

  void AddLayer(int layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const char* name : {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "post_attention_layernorm"}) {
      Copy(prefix + name + ".weight", prefix + name + ".weight");
    }
    switch (architecture_) {
      case HfArchitecture::kLlama:
        return CopyExpert(OwnExperts(spec_, layer).begin, prefix + "mlp.");
      case HfArchitecture::kQwen2Moe:
        return AddQwen2Moe(layer, prefix);
      case HfArchitecture::kUniPool:
        return AddRouter(layer, prefix + "mlp.router.");
    }
  }

  void AddQwen2Moe(int layer, const std::string& prefix) {
    const int64_t head_size = spec_.head_size();
    Zeros(prefix + "self_attn.q_proj.bias", {spec_.heads * head_size});
    Zeros(prefix + "self_attn.k_proj.bias", {spec_.kv_heads * head_size});
    Zeros(prefix + "self_attn.v_proj.bias", {spec_.kv_heads * head_size});
    const Range own = OwnExperts(spec_, layer);
    Copy(prefix + "mlp.gate.weight", prefix + "mlp.router.weight", own);
    for (int64_t e = own.begin; e < own.end; ++e)
      CopyExpert(e, prefix + "mlp.experts." + std::to_string(e - own.begin) + ".");
    Zeros(prefix + "mlp.shared_expert.gate_proj.weight", {kSharedExpertWidth, spec_.hidden});
    Zeros(prefix + "mlp.shared_expert.up_proj.weight", {kSharedExpertWidth, spec_.hidden});
    Zeros(prefix + "mlp.shared_expert.down_proj.weight", {spec_.hidden, kSharedExpertWidth});
    Zeros(prefix + "mlp.shared_expert_gate.weight", {1, spec_.hidden});
  }

  void AddRouter(int layer, const std::string& prefix) {
    if (!spec_.has_router) return;
    Copy(prefix + "weight", prefix + "weight");
    if (HasSigma(spec_.router)) Copy(prefix + "scale", prefix + "scale");
    if (!bias_.empty()) Copy(prefix + "bias", prefix + bias_);
    list_.push_back({.name = prefix + "visible", .shape = {spec_.experts}, .values = spec_.visible[layer]});
    if (visibility_.is_as_set()) return;
    const std::span<const float> factors = visibility_.of(layer);
    list_.push_back({.name = prefix + "attenuation",
                     .shape = {spec_.experts},
                     .values = {factors.begin(), factors.end()}});
  }

  HfArchitecture architecture_;
  const ModelSpec& spec_;
  const Visibility& visibility_;
  std::string bias_;
  std::vector<HfTensor> list_;
};

}  // namespace

Range OwnExperts(const ModelSpec& spec, int layer) {
  const std::vector<float>& visible = spec.visible[layer];
  int64_t begin = 0;
  while (visible[begin] == 0) ++begin;
  return {begin, begin + spec.num_visible(layer)};
}

std::string BiasNameOf(const Config& config) {
  if (config.moe().balance() != Balance::BIAS) return "";
  switch (config.moe().bias_scope()) {
    case BiasScope::POOL:
      return "bias";
    case BiasScope::LAYER:
      return "layer_bias";
  }
  LOG(FATAL) << "unknown scope " << config.moe().bias_scope();
}

std::vector<HfTensor> HfTensorsOf(HfArchitecture architecture, const ModelSpec& spec,
                                  const Visibility& visibility, const std::string& bias) {
  return TensorList(architecture, spec, visibility, bias).Make();
}

}  // namespace unipool
