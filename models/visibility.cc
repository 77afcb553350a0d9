#include "models/visibility.h"

#include <algorithm>

#include "runtime/errors.h"

namespace unipool {

Visibility::Visibility(const ModelSpec& spec) : spec_(spec), factors_(spec.layers * spec.experts) {
  Reset();
}

std::span<const float> Visibility::of(int layer) const {
  return std::span(factors_).subspan(layer * spec_.experts, spec_.experts);
}

int64_t Visibility::num_choosable(int layer) const {
  const std::span<const float> factors = of(layer);
  return std::count_if(factors.begin(), factors.end(), [](float f) { return f > 0; });
}

bool Visibility::is_as_set(int layer) const {
  const std::span<const float> factors = of(layer);
  const std::vector<float>& visible = spec_.visible[layer];
  return std::equal(factors.begin(), factors.end(), visible.begin(),
                    [](float f, float v) { return f == (v > 0 ? 1.f : 0.f); });
}

bool Visibility::is_as_set() const {
  for (int layer = 0; layer < spec_.layers; ++layer) {
    if (!is_as_set(layer)) return false;
  }
  return true;
}

void Visibility::Set(int layer, std::span<const float> factors) {
  CHECK_EQ(static_cast<int64_t>(factors.size()), spec_.experts);
  for (int64_t i = 0; i < spec_.experts; ++i) {
    CHECK(factors[i] >= 0 && factors[i] <= 1) << "layer " << layer << ", expert " << i << ": " << factors[i];
    row(layer)[i] = spec_.visible[layer][i] > 0 ? factors[i] : 0;
  }
  CHECK_GE(num_choosable(layer), spec_.top_k) << "experts that layer " << layer << " may choose";
}

void Visibility::Reset() {
  for (int layer = 0; layer < spec_.layers; ++layer) {
    std::transform(spec_.visible[layer].begin(), spec_.visible[layer].end(), row(layer),
                   [](float v) { return v > 0 ? 1.f : 0.f; });
  }
}

std::vector<DiskTensor> Visibility::DiskTensors() {
  std::vector<DiskTensor> list;
  for (int layer = 0; layer < spec_.layers; ++layer) {
    list.push_back({.name = "model.layers." + std::to_string(layer) + ".mlp.router.attenuation",
                    .shape = {spec_.experts},
                    .value = Tensor(row(layer), DType::kF32, {spec_.experts}),
                    .optional = true,
                    .implied = is_as_set(layer)});
  }
  return list;
}

void Visibility::CheckLoaded() const {
  Problems problems;
  for (int layer = 0; layer < spec_.layers; ++layer) {
    bool in_range = true;
    for (int64_t i = 0; i < spec_.experts; ++i) {
      const float f = of(layer)[i];
      in_range &= f >= 0 && f <= (spec_.visible[layer][i] > 0 ? 1 : 0);
    }
    const std::string name = Format("model.layers.%d.mlp.router.attenuation: ", layer);
    if (!in_range) {
      problems.Add(name +
                   "holds a factor that is not from 0 to 1, or takes an expert that the layer does not see");
    } else if (num_choosable(layer) < spec_.top_k) {
      problems.Add(name +
                   Format("leaves the layer %d experts; moe.top_k is %d", num_choosable(layer), spec_.top_k));
    }
  }
  problems.ThrowIfAny();
}

std::vector<BalanceGroup> BalanceGroupsOf(const ModelSpec& spec, const Visibility& visibility) {
  std::vector<BalanceGroup> groups(spec.num_balance_groups,
                                   {.chooses = std::vector<bool>(spec.experts, false)});
  for (int layer = 0; layer < spec.layers; ++layer) {
    BalanceGroup& group = groups[spec.balance_group[layer]];
    ++group.layers;
    for (int64_t i = 0; i < spec.experts; ++i) {
      if (visibility.may_choose(layer, i)) group.chooses[i] = true;
    }
  }
  for (BalanceGroup& group : groups)
    group.experts = std::count(group.chooses.begin(), group.chooses.end(), true);
  return groups;
}

}  // namespace unipool
