// config.json beside the weights: the model in the keys that LLaMA configurations have at Hugging Face, and
// keys for the pool.
#pragma once

#include <string>

#include "configs/config.pb.h"

namespace unipool {

std::string HuggingFaceConfigText(const Config& config);

}  // namespace unipool
