// The tensors of an exported model: their names in transformers, and which of ours each of them is.
#pragma once

#include <string>
#include <vector>

#include "launcher/interop/hf_architecture.h"
#include "models/visibility.h"
#include "runtime/range.h"

namespace unipool {

struct HfTensor {
  std::string name;
  std::string source;          // our weight of that name; "": it has `values`
  Range rows;                  // of the source that it consists of; empty: all
  std::vector<int64_t> shape;  // without a source; as many numbers as values
  std::vector<float> values;
  bool keeps_f32 = false;  // transformers computes with it in F32, whatever the others are
};

// Width of the shared expert that Qwen2-MoE has and our models have not: its weights are zero, so it adds
// nothing.
inline constexpr int64_t kSharedExpertWidth = 16;

// How a layer's bias of moe.balance BIAS is called behind "mlp.router." in our files; "": there is none.
std::string BiasNameOf(const Config& config);

// In the order of the layers. Padded rows of the vocabulary are left out: no token reaches them, and a
// program that scores texts would compare with rows that were never trained. A bias of the name `bias` is
// written as mlp.router.bias, unless it is "". The factors of `visibility` are written where they are not all
// as the settings say. REQUIRES: the architecture has no obstacle.
std::vector<HfTensor> HfTensorsOf(HfArchitecture architecture, const ModelSpec& spec,
                                  const Visibility& visibility, const std::string& bias);

// The experts [begin, end) of a layer whose experts are its own.
Range OwnExperts(const ModelSpec& spec, int layer);

}  // namespace unipool
