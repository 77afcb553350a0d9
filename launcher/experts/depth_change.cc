#include "launcher/experts/depth_change.h"

#include <algorithm>

#include "models/lock/lock_plan.h"
#include "models/router.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr char kPrefix[] = "model.layers.";

// "model.layers.L.rest" -> L and ".rest"; -1 where it is no layer's.
std::pair<int64_t, std::string> LayerOf(const std::string& name) {
  if (!name.starts_with(kPrefix)) return {-1, ""};
  const size_t begin = sizeof(kPrefix) - 1, dot = name.find('.', begin);
  return {std::stoll(name.substr(begin, dot - begin)), name.substr(dot)};
}

void MakeNew(const std::string& part, SavedModel::Weight& weight) {
  for (const int moment : {1, 2}) std::fill(weight.values[moment].begin(), weight.values[moment].end(), 0.F);
  if (part == ".self_attn.o_proj.weight") std::fill(weight.values[0].begin(), weight.values[0].end(), 0.F);
  if (part == ".mlp.router.scale") weight.values[0][0] = static_cast<float>(Router::kLeastScale);
}

struct Source {
  int64_t layer = 0;  // of the old model
  bool is_new = false;
};

// The new layer l is made of sources[l].
void Rebuild(SavedModel& model, const std::vector<Source>& sources) {
  std::map<std::string, SavedModel::Weight> weights;
  std::map<int64_t, std::vector<std::string>> parts;  // of each layer
  for (auto& [name, weight] : model.weights) {
    const auto [layer, part] = LayerOf(name);
    if (layer >= 0) {
      parts[layer].push_back(part);
    } else {
      weights.emplace(name, std::move(weight));
    }
  }
  std::vector<int64_t> rows;
  for (size_t l = 0; l < sources.size(); ++l) {
    rows.push_back(sources[l].layer);
    for (const std::string& part : parts[sources[l].layer]) {
      const std::string from = Format("model.layers.%d%s", sources[l].layer, part.c_str());
      SavedModel::Weight& weight = weights[Format("model.layers.%d%s", l, part.c_str())];
      weight = model.weights.at(from);
      if (sources[l].is_new) MakeNew(part, weight);
    }
  }
  model.weights = std::move(weights);
  if (const auto found = model.state.find("importance.v1"); found != model.state.end()) {
    SavedModel::State& state = found->second;  // [arrays, L, M]
    SelectLastButOne(state, rows);
    const int64_t experts = state.shape.back(), layers = state.shape[1];
    for (int64_t row = 0; row < state.shape[0] * layers; ++row) {
      const auto begin = state.values.begin() + row * experts;
      if (sources[row % layers].is_new) std::fill(begin, begin + experts, 0.0);
    }
  }
  model.config.mutable_model()->set_layers(static_cast<int32_t>(sources.size()));
  model.config.mutable_parallel()->clear_layers_per_stage();
}

}  // namespace

std::string WhyNotDepth(const Config& config, bool grows) {
  const MoeConfig& moe = config.moe();
  if (HasLock(config)) return "the layers of this run own their experts (moe.lock), so its depth is settled";
  if (moe.sharing() != Sharing::GLOBAL) {
    return Format(
        "with moe.sharing %s layers have experts of their own; the depth of a GLOBAL pool alone changes",
        Sharing::Value_Name(moe.sharing()).c_str());
  }
  if (grows && !HasSigma(RouterKindOf(moe.router()))) {
    return Format(
        "a router of kind %s has no scale, so a new layer would change what the model computes; "
        "moe.router NORM has one",
        RouterType::Value_Name(moe.router()).c_str());
  }
  return "";
}

std::vector<int64_t> PlacesOfNewLayers(int64_t layers, int64_t num_new) {
  const int64_t first = num_new <= (layers + 1) / 2 ? layers / 2 : 0;
  std::vector<int64_t> after;
  for (int64_t i = 1; i <= num_new; ++i) {
    after.push_back(first + std::max<int64_t>(0, (i * (layers - first) + num_new - 1) / num_new - 1));
  }
  return after;
}

void InsertLayers(SavedModel& model, const std::vector<int64_t>& after) {
  std::vector<Source> sources;
  for (int64_t l = 0; l < model.config.model().layers(); ++l) {
    sources.push_back({.layer = l});
    for (const int64_t place : after) {
      if (place == l) sources.push_back({.layer = l, .is_new = true});
    }
  }
  Rebuild(model, sources);
}

void DropLayers(SavedModel& model, const std::vector<int64_t>& layers) {
  std::vector<Source> sources;
  for (int64_t l = 0; l < model.config.model().layers(); ++l) {
    if (std::find(layers.begin(), layers.end(), l) == layers.end()) sources.push_back({.layer = l});
  }
  Rebuild(model, sources);
}

}  // namespace unipool
