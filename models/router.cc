#include "models/router.h"

#include <algorithm>

#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include "kernels/top_k.h"

namespace unipool {

Router::Router(const ModelSpec& spec, int layer, DenseParameters& parameters, LoadBalance& balance,
               Stream& stream)
    : spec_(spec), layer_(layer), parameters_(parameters), balance_(balance), stream_(stream) {
  if (!spec.has_router) return;
  score_spec_ = {.kind = spec.router, .constant = spec.router_constant[layer]};
  const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.router.";
  weight_ = parameters.Declare(prefix + "weight", {spec.experts, spec.hidden}, {.std = spec.init_std}, true);
  if (spec.router == RouterKind::kNorm)
    scale_ = parameters.Declare(prefix + "scale", {1}, {.mean = 1}, false);
}

int64_t Router::Forward(const Tensor& x, const Saved& saved) {
  Fill(stream_, saved.counts, 0);
  if (!spec_.has_router) return ChooseOnlyExpert(saved);
  Fill(stream_, saved.score_sum, 0);
  Gemm(stream_, Trans::kNo, x, Trans::kYes, parameters_.value(weight_), 0, saved.logits);
  const Tensor sigma = scale_ >= 0 ? parameters_.value(scale_) : Tensor{};
  RouterScoresForward(stream_, score_spec_, saved.logits, sigma, balance_.visible(layer_), saved.scores,
                      saved.score_sum);
  return TopK(stream_, saved.scores, balance_.bias(layer_), balance_.visible(layer_), saved.experts,
              saved.weights, saved.counts);
}

int64_t Router::ChooseOnlyExpert(const Saved& saved) {
  const std::vector<float>& visible = spec_.visible[layer_];
  const auto expert = static_cast<int32_t>(std::find(visible.begin(), visible.end(), 1.f) - visible.begin());
  std::fill_n(saved.experts.as<int32_t>(), saved.experts.size(), expert);
  Fill(stream_, saved.weights, 1);
  saved.counts.as<int64_t>()[expert] = saved.experts.size();
  return 0;
}

void Router::Backward(const Tensor& x, const Saved& saved, const Tensor& dweights, int64_t microbatch,
                      const Tensor& dx, Buffer& scratch) {
  if (!spec_.has_router) return;
  const Tensor dlogits = scratch.UseView(x.dtype, {x.rows(), spec_.experts});
  RouterScoresBackward(stream_, score_spec_, saved.logits, scale_ >= 0 ? parameters_.value(scale_) : Tensor{},
                       balance_.visible(layer_), saved.scores,
                       {.experts = saved.experts,
                        .dchosen = dweights,
                        .aux = balance_.AuxGradient(layer_, microbatch, saved.counts, saved.score_sum),
                        .dlogits = dlogits,
                        .dsigma = scale_ >= 0 ? parameters_.grad(scale_) : Tensor{},
                        .importance = balance_.importance(layer_)});
  Gemm(stream_, Trans::kNo, dlogits, Trans::kNo, parameters_.value(weight_), 1, dx);
  Gemm(stream_, Trans::kYes, dlogits, Trans::kNo, x, 1, parameters_.grad(weight_));
}

}  // namespace unipool
