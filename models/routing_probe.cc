#include "models/routing_probe.h"

#include <cmath>

namespace unipool {

RoutingProbe::RoutingProbe(const ModelSpec& spec, std::vector<int64_t> kept, DeviceContext* device)
    : spec_(spec),
      reader_(device),
      counts_(spec.layers * spec.experts),
      mass_(spec.layers * spec.experts),
      tokens_(spec.layers),
      ratio_sums_(spec.layers) {
  if (!kept.empty()) is_kept_.resize(spec.experts);
  for (const int64_t expert : kept) is_kept_[expert] = true;
}

void RoutingProbe::Routed(int layer, const Router::Saved& router, int64_t tokens) {
  if (tokens == 0) return;
  const std::vector<double> experts = reader_.Read(router.experts, tokens);
  const std::vector<double> weights = reader_.Read(router.weights, tokens);
  for (size_t i = 0; i < experts.size(); ++i) {
    if (!(weights[i] > 0)) continue;
    const int64_t at = layer * spec_.experts + static_cast<int64_t>(experts[i]);
    counts_[at] += 1;
    mass_[at] += weights[i];
  }
  tokens_[layer] += static_cast<double>(tokens);
  if (!is_kept_.empty() && spec_.has_router) AddNorms(layer, router.logits, tokens);
}

void RoutingProbe::AddNorms(int layer, const Tensor& logits, int64_t tokens) {
  const std::vector<double> numbers = reader_.Read(logits, tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    double kept = 0, all = 0;
    for (int64_t i = 0; i < spec_.experts; ++i) {
      const double z = numbers[t * spec_.experts + i] * spec_.visible[layer][i];
      all += z * z;
      if (is_kept_[i]) kept += z * z;
    }
    ratio_sums_[layer] += all > 0 ? std::sqrt(kept / all) : 1;
  }
}

double RoutingProbe::norm_ratio(int layer) const {
  return !is_kept_.empty() && tokens_[layer] > 0 ? ratio_sums_[layer] / tokens_[layer] : 1;
}

void RoutingProbe::Reduce(Communicator& world) {
  for (std::vector<double>* numbers : {&counts_, &mass_, &tokens_, &ratio_sums_}) {
    world.AllReduceSum(Tensor(numbers->data(), DType::kF64, {static_cast<int64_t>(numbers->size())}),
                       {.operation = "choices of experts"});
  }
}

}  // namespace unipool
