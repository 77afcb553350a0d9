#include "launcher/interop/sharing_change.h"

#include <algorithm>

#include "launcher/interop/hf_tensors.h"
#include "launcher/interop/model_weights.h"
#include "models/settings.h"
#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {
namespace {

using Weight = SavedModel::Weight;

Weight Zeros(std::vector<int64_t> shape, bool has_moments) {
  int64_t size = 1;
  for (const int64_t dim : shape) size *= dim;
  Weight weight{.shape = std::move(shape)};
  for (int i = 0; i < (has_moments ? 3 : 1); ++i) weight.values[i].assign(size, 0.F);
  return weight;
}

void SetFactors(int64_t layer, const std::vector<float>& factors, SavedModel& model) {
  Weight& weight = model.weights[RouterPrefix(layer) + "attenuation"];
  weight = {.shape = {static_cast<int64_t>(factors.size())}};
  weight.values[0] = factors;
}

// ---- one FFN for each layer

// Expert i of the result is a copy of layer owners[i]'s FFN; experts 0 to L - 1 are there already.
void CopyExperts(const std::vector<int32_t>& owners, SavedModel& model) {
  std::map<std::string, Weight> weights;
  for (size_t i = 0; i < owners.size(); ++i) {
    for (const char* projection : kProjections) {
      const std::string end = std::string(projection) + ".weight";
      weights[ExpertPrefix(static_cast<int64_t>(i)) + end] = model.weights.at(ExpertPrefix(owners[i]) + end);
    }
  }
  for (auto& [name, weight] : weights) model.weights[name] = std::move(weight);
}

void ScaleDown(double factor, SavedModel& model) {
  for (auto& [name, weight] : model.weights) {
    if (!name.starts_with("model.pool.") || !name.ends_with(".down_proj.weight")) continue;
    for (float& x : weight.values[0]) x *= static_cast<float>(factor);
  }
}

// A layer with one expert gives it the weight 1, as softmax over one. Copies are told apart by a sigmoid:
// with rows of zeros each has the score 1/2, and the first of equals is chosen; its down projection is twice
// what it was.
SharingChange SpreadFfns(const SharingOptions& options, SavedModel& model) {
  const int32_t layers = model.config.model().layers();
  const int32_t experts = options.experts > 0 ? options.experts : layers;
  const bool is_pool = options.as == ImportAs::kPool;
  if (experts < layers || (!is_pool && experts % layers != 0)) {
    throw UserError(Format("moe.experts: is %d, but the model has an FFN in each of %d layers; must be %s%d",
                           experts, layers, is_pool ? "at least " : "a multiple of ", layers));
  }
  if (options.sees_all) {
    throw UserError(
        "--visible=all: a dense model has no routers that could choose among all experts; leave it out");
  }
  std::vector<int32_t> owners;
  const int32_t of_each = is_pool ? 0 : experts / layers;
  for (int32_t i = 0; i < experts; ++i) owners.push_back(is_pool ? i % layers : i / of_each);
  CopyExperts(owners, model);
  const bool has_copies = experts > layers;
  for (int32_t layer = 0; layer < layers; ++layer) {
    model.weights[RouterPrefix(layer) + "weight"] = Zeros({experts, model.config.model().hidden()}, true);
    if (!is_pool) continue;
    std::vector<float> factors;
    for (const int32_t owner : owners) factors.push_back(owner == layer ? 1.F : 0.F);
    SetFactors(layer, factors, model);
  }
  if (has_copies) ScaleDown(2, model);
  MoeConfig& moe = *model.config.mutable_moe();
  moe.set_sharing(is_pool ? Sharing::GLOBAL : Sharing::PRIVATE);
  moe.set_experts(experts);
  moe.set_top_k(1);
  moe.set_router(has_copies ? RouterType::SIGMOID : RouterType::SOFTMAX);
  moe.set_router_constant(0);
  moe.set_balance(!has_copies ? Balance::NONE : is_pool ? Balance::POOL_LOSS : Balance::LAYER_LOSS);
  if (!has_copies)
    return {.reason =
                "at top-1 a layer has the one expert that was its FFN, and softmax over one gives it the "
                "score 1; nothing is chosen yet"};
  return {
      .reason =
          "each layer sees its FFN and copies of it; routers begin at 0, so the first has the score 1/2 for "
          "every token, and down projections are doubled"};
}

// ---- experts of each layer's own

// The layer's rows for experts that it does not see: those that nothing had a use for.
void ClearForeignRows(const ModelSpec& spec, int layer, Weight& router) {
  for (std::vector<float>& values : router.values) {
    for (int64_t e = 0; e < spec.experts; ++e) {
      if (values.empty() || spec.visible[layer][e] > 0) continue;
      std::fill_n(values.begin() + e * spec.hidden, spec.hidden, 0.F);
    }
  }
}

void DrawForeignRows(const ModelSpec& spec, int layer, uint64_t seed, Weight& router) {
  const uint64_t key = seed ^ HashBytes(RouterPrefix(layer) + "weight");
  for (int64_t e = 0; e < spec.experts; ++e) {
    if (spec.visible[layer][e] > 0) continue;
    for (int64_t i = e * spec.hidden; i < (e + 1) * spec.hidden; ++i)
      router.values[0][i] = static_cast<float>(spec.init_std * RandomNormal(key, i));
  }
}

// A bias that the layers of a group share becomes each layer's own.
void MakeBiasesOwn(const ModelSpec& spec, SavedModel& model) {
  if (BiasNameOf(model.config) != "bias") return;
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    auto node = model.weights.extract(RouterPrefix(layer) + "bias");
    node.key() = RouterPrefix(layer) + "layer_bias";
    model.weights.insert(std::move(node));
  }
  model.config.mutable_moe()->set_bias_scope(BiasScope::LAYER);
}

SharingChange JoinExperts(const SharingOptions& options, SavedModel& model) {
  const ModelSpec spec = MakeModelSpec(model.config);
  for (int layer = 0; layer < spec.layers; ++layer) {
    Weight& router = model.weights.at(RouterPrefix(layer) + "weight");
    ClearForeignRows(spec, layer, router);
    if (options.sees_all) {
      DrawForeignRows(spec, layer, model.config.train().seed(), router);
      model.weights.erase(RouterPrefix(layer) + "attenuation");
    } else if (!model.weights.contains(RouterPrefix(layer) + "attenuation")) {
      SetFactors(layer, spec.visible[layer], model);
    }
  }
  MakeBiasesOwn(spec, model);
  MoeConfig& moe = *model.config.mutable_moe();
  moe.set_sharing(Sharing::GLOBAL);
  if (HasSigma(spec.router)) moe.set_router_constant(spec.router_constant[0]);
  if (moe.balance() == Balance::LAYER_LOSS) moe.set_balance(Balance::POOL_LOSS);
  if (options.sees_all) {
    return {.is_exact = false,
            .reason =
                "every layer may choose all experts from now on, and its router's rows for those of other "
                "layers are random"};
  }
  return {.reason = "each layer may choose its own experts alone, as before; routers' rows for others are 0"};
}

}  // namespace

ImportAs ImportAsNamed(const std::string& name) {
  if (name == "pool") return ImportAs::kPool;
  if (name == "private") return ImportAs::kPrivate;
  if (name == "dense") return ImportAs::kDense;
  throw UserError("--as=" + name + ": must be pool, private or dense");
}

SharingChange ChangeSharing(const SharingOptions& options, SavedModel& model) {
  const Sharing::Value sharing = model.config.moe().sharing();
  const bool is_dense = sharing == Sharing::DENSE, is_private = sharing == Sharing::PRIVATE;
  const int32_t experts = model.config.moe().experts();
  if (is_dense && options.as != ImportAs::kDense) return SpreadFfns(options, model);
  if (options.experts > 0 && options.experts != experts)
    throw UserError(Format("moe.experts: is %d, but the model has %d experts", options.experts, experts));
  if (options.sees_all && !(is_private && options.as == ImportAs::kPool)) {
    throw UserError("--visible=all: is for a model of private experts that becomes a pool (--as=pool)");
  }
  switch (options.as) {
    case ImportAs::kDense:
      if (!is_dense)
        throw UserError("--as=dense: the model has experts that its layers choose; it may be a pool" +
                        std::string(is_private ? " or private" : ""));
      return {.reason = "the model stays what it was"};
    case ImportAs::kPrivate:
      if (!is_private)
        throw UserError("--as=private: the layers of this model share experts; --as=pool keeps them");
      return {.reason = "the model stays what it was"};
    case ImportAs::kPool:
      return is_private ? JoinExperts(options, model)
                        : SharingChange{.reason = "the model stays what it was"};
  }
  LOG(FATAL) << "unknown kind " << static_cast<int>(options.as);
}

}  // namespace unipool
