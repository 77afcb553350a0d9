// config.json beside the weights: the model under the keys that LLaMA configurations have at Hugging Face,
// and under keys of its own for the pool of experts.
#pragma once

#include <string>

#include "configs/config.pb.h"

namespace unipool {

// A JSON object with a newline at its end.
std::string HuggingFaceConfigText(const Config& config);

}  // namespace unipool
