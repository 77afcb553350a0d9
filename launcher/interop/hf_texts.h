// The files beside exported weights: settings for transformers, and a model card for people.
#pragma once

#include <string>

#include "launcher/interop/hf_architecture.h"
#include "models/model_spec.h"

namespace unipool {

struct HfTextInput {
  HfChoice choice;
  const Config& config;
  const ModelSpec& spec;
  bool has_bias = false;          // the model has biases that move the choice of experts
  bool is_attenuated = false;     // layers have given up experts that the settings gave them
  int32_t end_of_text = -1;       // the token that ends a document; -1: there is none
  bool has_tokenizer = true;      // a tokenizer goes with the model
  std::string dtype = "float32";  // of the weights, as PyTorch calls it
  std::string name;               // of the model: the folder's
  std::string source;             // the checkpoint
};

// Each is a JSON object with a newline at its end, whose keys keep their order.
std::string HfConfigJson(const HfTextInput& input);
std::string HfGenerationJson(const HfTextInput& input);
std::string HfTokenizerConfigJson(const HfTextInput& input);

// One line of Python that loads the exported folder.
std::string LoadingLine(HfArchitecture architecture, const std::string& folder);
// README.md, with the run's settings. Folders of the machine are cut from names of data.
std::string ModelCard(const HfTextInput& input);

}  // namespace unipool
