#include "launcher/experts/pool_shrinking.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "models/model_spec.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// "model.pool.experts.E.rest" -> E and ".rest"; -1 where it is no expert's.
std::pair<int64_t, std::string> ExpertOf(const std::string& name) {
  static const std::string kPrefix = "model.pool.experts.";
  if (!name.starts_with(kPrefix)) return {-1, ""};
  const size_t dot = name.find('.', kPrefix.size());
  return {std::stoll(name.substr(kPrefix.size(), dot - kPrefix.size())), name.substr(dot)};
}

void RenumberExperts(SavedModel& model, const std::vector<int64_t>& kept) {
  std::map<std::string, SavedModel::Weight> weights;
  for (auto& [name, weight] : model.weights) {
    const auto [expert, rest] = ExpertOf(name);
    if (expert < 0) {
      weights.emplace(name, std::move(weight));
      continue;
    }
    const auto place = std::lower_bound(kept.begin(), kept.end(), expert);
    if (place == kept.end() || *place != expert) continue;
    weights.emplace(Format("model.pool.experts.%d%s", place - kept.begin(), rest.c_str()), std::move(weight));
  }
  model.weights = std::move(weights);
}

// Shares of what is left, each group's sum 1 again.
void Renormalize(std::vector<double>& shares, int64_t experts) {
  for (auto begin = shares.begin(); begin != shares.end(); begin += experts) {
    const double total = std::accumulate(begin, begin + experts, 0.0);
    if (total > 0) std::for_each(begin, begin + experts, [&](double& share) { share /= total; });
  }
}

void ShrinkState(SavedModel& model, const std::vector<int64_t>& kept, int64_t experts_before) {
  const auto experts = static_cast<int64_t>(kept.size());
  for (auto& [name, state] : model.state) {
    if (name == "importance.v1") {
      SelectLast(state, kept);
    } else if (name.starts_with("balance.") && !name.ends_with(".step")) {
      std::vector<int64_t> entries;  // of each group
      for (int64_t first = 0; first < state.shape.back(); first += experts_before) {
        for (const int64_t expert : kept) entries.push_back(first + expert);
      }
      SelectLast(state, entries);
      Renormalize(state.values, experts);
    }
  }
}

}  // namespace

void ShrinkPool(SavedModel& model, const std::vector<int64_t>& kept, const std::vector<double>& norm_ratio) {
  MoeConfig& moe = *model.config.mutable_moe();
  const int64_t experts_before = moe.experts();
  const std::vector<double> constants = MakeModelSpec(model.config).router_constant;
  // A constant that was given by hand is kept, since its sigmas learned with it.
  moe.set_experts(static_cast<int32_t>(kept.size()));
  const std::vector<double> new_constants = MakeModelSpec(model.config).router_constant;
  RenumberExperts(model, kept);
  for (int64_t l = 0; l < model.config.model().layers(); ++l) {
    const std::string router = Format("model.layers.%d.mlp.router.", l);
    for (const char* part : {"weight", "bias", "layer_bias"}) {
      const auto found = model.weights.find(router + part);
      if (found != model.weights.end()) SelectRows(found->second, kept);
    }
    model.weights.erase(router + "attenuation");  // those that it barred are gone
    const auto scale = model.weights.find(router + "scale");
    if (scale == model.weights.end()) continue;
    scale->second.values[0][0] *= static_cast<float>(constants[l] / new_constants[l] * norm_ratio[l]);
  }
  ShrinkState(model, kept, experts_before);
}

void ShrinkFaded(SavedModel& model) {
  const MoeConfig& moe = model.config.moe();
  std::vector<bool> is_kept(moe.experts());
  for (const auto& [name, weight] : model.weights) {
    if (!name.ends_with(".router.attenuation")) continue;
    for (size_t i = 0; i < is_kept.size(); ++i) is_kept[i] = is_kept[i] || weight.values[0][i] > 0;
  }
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < moe.experts(); ++i) {
    if (is_kept[i]) kept.push_back(i);
  }
  const nlohmann::json state = nlohmann::json::parse(model.training_state);
  const std::vector<double> ratios = state.value("norm_ratios", std::vector<double>());
  const bool fits = static_cast<int64_t>(kept.size()) == moe.shrink_to() &&
                    static_cast<int64_t>(ratios.size()) == model.config.model().layers();
  if (!fits) {
    throw UserError(
        Format("step %d: its pool was to have shrunk to %d experts (moe.shrink_to, moe.shrink_end), but the "
               "checkpoint holds %d that have not faded; go on with train.resume_step from before "
               "moe.shrink_begin",
               model.step, moe.shrink_to(), kept.size()));
  }
  ShrinkPool(model, kept, ratios);
}

}  // namespace unipool
