// Which class of Hugging Face's transformers computes what a model of ours computes.
#pragma once

#include <string>

#include "configs/config.pb.h"

namespace unipool {

enum class HfArchitecture {
  kLlama,     // LlamaForCausalLM: one FFN per layer
  kQwen2Moe,  // Qwen2MoeForCausalLM: a softmax over each layer's own experts, weights not normalised again
  kUniPool,   // UniPoolForCausalLM, whose code lies beside the weights (models/huggingface)
};
inline constexpr HfArchitecture kAllHfArchitectures[] = {HfArchitecture::kLlama, HfArchitecture::kQwen2Moe,
                                                         HfArchitecture::kUniPool};

const char* ClassNameOf(HfArchitecture architecture);
// llama, qwen2_moe, unipool: as `--as` and config.json's model_type call it.
const char* ModelTypeOf(HfArchitecture architecture);
// Throws UserError for another name.
HfArchitecture HfArchitectureNamed(const std::string& model_type);

// What keeps the architecture from computing the same as the model, with the setting; "": nothing.
// `is_attenuated`: layers have given up experts that the settings gave them (models/visibility.h).
std::string ObstacleTo(HfArchitecture architecture, const Config& config, bool is_attenuated);

struct HfChoice {
  HfArchitecture architecture = HfArchitecture::kUniPool;
  std::string reason;  // continues "CLASS, since "
};
// The first of the list without an obstacle. The last one has none.
HfChoice ChooseHfArchitecture(const Config& config, bool is_attenuated);

}  // namespace unipool
