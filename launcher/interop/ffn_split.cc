#include "launcher/interop/ffn_split.h"

#include <algorithm>
#include <numeric>

#include "launcher/interop/model_weights.h"
#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {
namespace {

using Weight = SavedModel::Weight;

struct Sizes {
  int64_t neurons = 0, experts = 0, shared = 0, width = 0;
  int64_t own() const { return width - shared; }
  int64_t used() const { return shared + experts * own(); }
};

Sizes SizesOf(const FfnSplit& split, int64_t neurons) {
  const Sizes sizes{.neurons = neurons,
                    .experts = split.experts,
                    .shared = split.shared,
                    .width = split.width > 0 ? split.width : neurons / std::max(1, split.experts)};
  Problems problems;
  if (sizes.experts < 1 || sizes.experts > neurons)
    problems.Add(Format("--parts=%d: must be from 1 to %d, the neurons of an FFN", split.experts, neurons));
  if (sizes.shared < 0 || sizes.shared > sizes.width)
    problems.Add(
        Format("--shared=%d: must be from 0 to %d, the width of an expert", split.shared, sizes.width));
  problems.ThrowIfAny();
  if (sizes.used() > neurons) {
    throw UserError(Format(
        "moe.width: is %d; %d experts of this width with %d shared neurons need %d neurons, and an FFN "
        "has %d; at most %d",
        sizes.width, sizes.experts, sizes.shared, sizes.used(), neurons,
        sizes.shared + (neurons - sizes.shared) / sizes.experts));
  }
  if (split.top_k < 1 || split.top_k > split.experts)
    throw UserError(
        Format("moe.top_k: is %d; must be from 1 to %d, the experts of a layer", split.top_k, split.experts));
  return sizes;
}

int64_t SizeOf(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

Weight Zeros(std::vector<int64_t> shape) {
  Weight weight{.shape = std::move(shape)};
  for (std::vector<float>& values : weight.values) values.assign(SizeOf(weight.shape), 0.F);
  return weight;
}

// Rows of a matrix [F, D].
Weight Rows(const Weight& from, const std::vector<int64_t>& rows) {
  const int64_t length = from.shape[1];
  Weight to = Zeros({static_cast<int64_t>(rows.size()), length});
  for (size_t i = 0; i < rows.size(); ++i)
    std::copy_n(from.values[0].begin() + rows[i] * length, length,
                to.values[0].begin() + static_cast<int64_t>(i) * length);
  return to;
}

// Columns of a matrix [D, F], each multiplied by its factor.
Weight Columns(const Weight& from, const std::vector<int64_t>& columns, const std::vector<float>& factors) {
  const int64_t rows = from.shape[0], length = from.shape[1], width = static_cast<int64_t>(columns.size());
  Weight to = Zeros({rows, width});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < width; ++j)
      to.values[0][row * width + j] = from.values[0][row * length + columns[j]] * factors[j];
  }
  return to;
}

void DrawRouter(uint64_t seed, double std, const std::string& name, Weight& router) {
  for (size_t i = 0; i < router.values[0].size(); ++i)
    router.values[0][i] = static_cast<float>(std * RandomNormal(seed ^ HashBytes(name), i));
}

}  // namespace

std::vector<std::vector<int64_t>> DealNeurons(const FfnSplit& split, const std::vector<double>& importance) {
  const Sizes sizes = SizesOf(split, static_cast<int64_t>(importance.size()));
  std::vector<int64_t> order(importance.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return importance[a] > importance[b]; });
  std::vector<std::vector<int64_t>> experts(sizes.experts);
  for (int64_t e = 0; e < sizes.experts; ++e) {
    experts[e].assign(order.begin(), order.begin() + sizes.shared);
    for (int64_t i = 0; i < sizes.own(); ++i)
      experts[e].push_back(order[sizes.shared + e + i * sizes.experts]);
  }
  return experts;
}

SharingChange SplitFfns(const FfnSplit& split, const std::vector<std::vector<double>>& importance,
                        SavedModel& model) {
  const int64_t layers = model.config.model().layers(), hidden = model.config.model().hidden();
  const Sizes sizes = SizesOf(split, model.config.moe().width());
  std::vector<float> factors(sizes.width, static_cast<float>(split.experts));
  std::fill_n(factors.begin(), sizes.shared,
              static_cast<float>(split.experts) / static_cast<float>(split.top_k));
  std::map<std::string, Weight> experts;
  double kept = 0, total = 0;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::vector<std::vector<int64_t>> dealt = DealNeurons(split, importance[layer]);
    const std::string from = ExpertPrefix(layer);
    for (int64_t e = 0; e < sizes.experts; ++e) {
      const std::string to = ExpertPrefix(layer * sizes.experts + e);
      for (const char* part : {"gate_proj.weight", "up_proj.weight"})
        experts[to + part] = Rows(model.weights.at(from + part), dealt[e]);
      experts[to + "down_proj.weight"] =
          Columns(model.weights.at(from + "down_proj.weight"), dealt[e], factors);
      for (size_t i = e == 0 ? 0 : sizes.shared; i < dealt[e].size(); ++i)
        kept += importance[layer][dealt[e][i]];
    }
    total += std::accumulate(importance[layer].begin(), importance[layer].end(), 0.0);
    Weight& router = model.weights[RouterPrefix(layer) + "weight"] = Zeros({layers * sizes.experts, hidden});
    if (split.top_k < split.experts)
      DrawRouter(model.config.train().seed(), model.config.model().init_std(), RouterPrefix(layer), router);
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const char* projection : kProjections)
      model.weights.erase(ExpertPrefix(layer) + projection + ".weight");
  }
  model.weights.merge(experts);
  MoeConfig& moe = *model.config.mutable_moe();
  moe.set_sharing(Sharing::PRIVATE);
  moe.set_experts(static_cast<int32_t>(layers * sizes.experts));
  moe.set_width(static_cast<int32_t>(sizes.width));
  moe.set_top_k(split.top_k);
  moe.set_router(RouterType::SOFTMAX);
  moe.set_router_constant(0);
  moe.set_balance(Balance::LAYER_LOSS);
  const std::string what = Format("each FFN of %d neurons became %d experts of %d, %d of them in all experts",
                                  sizes.neurons, sizes.experts, sizes.width, sizes.shared);
  if (split.top_k == split.experts && sizes.used() == sizes.neurons)
    return {.reason =
                what + "; all experts of a layer are chosen, with equal weights, and no neuron is left out"};
  return {.is_exact = false,
          .reason = what + Format("; they hold %.1f %% of the importance, and a token gets %d of %d experts",
                                  total > 0 ? 100 * kept / total : 100.0, split.top_k, split.experts)};
}

}  // namespace unipool
