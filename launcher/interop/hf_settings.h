// Which of our models a config.json of Hugging Face's transformers describes, and why another one is refused:
// it would be computed in another way than transformers computes it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "launcher/interop/hf_architecture.h"

namespace unipool {

struct HfModel {
  HfArchitecture architecture = HfArchitecture::kUniPool;
  // `model` and `moe`, all else at its defaults. Llama is DENSE, Qwen2-MoE PRIVATE with SOFTMAX, ours is what
  // it was.
  Config config;
  bool is_attenuated = false;       // factors of each layer are among the weights (models/visibility.h)
  bool ties_embeddings = false;     // the head is the embedding, which stands in the files once
  int64_t shared_expert_width = 0;  // of Qwen2-MoE; 0: it has none
};

// `name` is the file's, for messages. Throws UserError with all that is wrong or cannot be computed here,
// each with the reason.
HfModel HfModelOf(const nlohmann::json& json, const std::string& name);

}  // namespace unipool
