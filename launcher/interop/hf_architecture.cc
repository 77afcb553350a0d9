#include "launcher/interop/hf_architecture.h"

#include "runtime/errors.h"

namespace unipool {
namespace {

std::string WhyNotLlama(const Config& config) {
  const Sharing::Value sharing = config.moe().sharing();
  if (sharing == Sharing::DENSE) return "";
  return "moe.sharing is " + Sharing::Value_Name(sharing) + ", and Llama has one FFN per layer (DENSE)";
}

std::string WhyNotQwen2Moe(const Config& config, bool is_attenuated) {
  const MoeConfig& moe = config.moe();
  if (moe.sharing() != Sharing::PRIVATE) {
    return "moe.sharing is " + Sharing::Value_Name(moe.sharing()) +
           ", and Qwen2-MoE has experts of each layer's own and a router (PRIVATE)";
  }
  if (moe.router() != RouterType::SOFTMAX) {
    return "moe.router is " + RouterType::Value_Name(moe.router()) + ", and Qwen2-MoE's is a softmax";
  }
  if (moe.balance() == Balance::BIAS)
    return "moe.balance is BIAS, and Qwen2-MoE has no bias that moves the choice";
  if (is_attenuated) return "layers have given up experts, which Qwen2-MoE's never do";
  if (moe.experts() % config.model().layers() != 0) {
    return Format("%d experts in %d layers, and Qwen2-MoE has as many in each layer", moe.experts(),
                  config.model().layers());
  }
  return "";
}

}  // namespace

const char* ClassNameOf(HfArchitecture architecture) {
  switch (architecture) {
    case HfArchitecture::kLlama:
      return "LlamaForCausalLM";
    case HfArchitecture::kQwen2Moe:
      return "Qwen2MoeForCausalLM";
    case HfArchitecture::kUniPool:
      return "UniPoolForCausalLM";
  }
  LOG(FATAL) << "unknown architecture " << static_cast<int>(architecture);
}

const char* ModelTypeOf(HfArchitecture architecture) {
  switch (architecture) {
    case HfArchitecture::kLlama:
      return "llama";
    case HfArchitecture::kQwen2Moe:
      return "qwen2_moe";
    case HfArchitecture::kUniPool:
      return "unipool";
  }
  LOG(FATAL) << "unknown architecture " << static_cast<int>(architecture);
}

HfArchitecture HfArchitectureNamed(const std::string& model_type) {
  for (const HfArchitecture architecture : kAllHfArchitectures) {
    if (model_type == ModelTypeOf(architecture)) return architecture;
  }
  throw UserError("--as=" + model_type + ": must be llama, qwen2_moe or unipool");
}

std::string ObstacleTo(HfArchitecture architecture, const Config& config, bool is_attenuated) {
  switch (architecture) {
    case HfArchitecture::kLlama:
      return WhyNotLlama(config);
    case HfArchitecture::kQwen2Moe:
      return WhyNotQwen2Moe(config, is_attenuated);
    case HfArchitecture::kUniPool:
      return "";
  }
  LOG(FATAL) << "unknown architecture " << static_cast<int>(architecture);
}

HfChoice ChooseHfArchitecture(const Config& config, bool is_attenuated) {
  if (WhyNotLlama(config).empty())
    return {HfArchitecture::kLlama, "the model is dense, and needs no code of its own"};
  const std::string obstacle = WhyNotQwen2Moe(config, is_attenuated);
  if (obstacle.empty()) {
    return {HfArchitecture::kQwen2Moe,
            "each layer has a softmax over its own experts, and needs no code of its own"};
  }
  return {HfArchitecture::kUniPool, obstacle};
}

}  // namespace unipool
