// The weights of a model by their names in our files, known from its settings alone, without an engine.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/model_spec.h"

namespace unipool {

// name -> shape: what EngineState::Weights() of one rank has. `bias`: BiasNameOf (hf_tensors.h).
std::map<std::string, std::vector<int64_t>> WeightShapes(const ModelSpec& spec, const std::string& bias);

// "model.layers.3.mlp.router." and "model.pool.experts.7.", to be continued.
std::string RouterPrefix(int64_t layer);
std::string ExpertPrefix(int64_t expert);

inline constexpr const char* kProjections[] = {"gate_proj", "up_proj", "down_proj"};

}  // namespace unipool
