#include "models/router.h"

#include <algorithm>

#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include "kernels/router_forward.h"
#include "kernels/split_bf16.h"

namespace unipool {

Router::Router(const ModelSpec& spec, int layer, DenseParameters& parameters, ExpertUse& use, Stream& stream,
               MemoryMeter& memory)
    : spec_(spec), layer_(layer), parameters_(parameters), use_(use), stream_(stream), memory_(memory) {
  if (!spec.has_router) return;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.router.";
  weight_ = parameters.Declare(prefix + "weight", {spec.experts, spec.hidden}, {.std = spec.init_std},
                               WeightDecay::kYes);
  if (HasSigma(spec.router))
    scale_ = parameters.Declare(prefix + "scale", {1}, {.mean = 1}, WeightDecay::kNo);
}

RouterScoreSpec Router::score_spec() const {
  return {.kind = spec_.router,
          .constant = spec_.router_constant[layer_],
          .attenuation = use_.visible.attenuation(layer_)};
}

void Router::RefreshWeight() {
  if (scale_ >= 0) RaiseToLeast(stream_, sigma(), kLeastScale);
  if (!spec_.has_router || parameters_.compute(weight_).dtype != DType::kBF16) return;
  const Tensor weight = parameters_.master(weight_), copy = parameters_.compute(weight_);
  if (weight_low_.max_bytes() == 0) {
    weight_low_ = Buffer::Allocate(memory_, MemoryKind::kParameters, copy.bytes());
  }
  SplitBf16(stream_, weight, copy, weight_low());
}

Tensor Router::weight_low() const {
  if (weight_low_.max_bytes() == 0) return {};
  return weight_low_.View(DType::kBF16, {spec_.experts, spec_.hidden});
}

void Router::Forward(const Tensor& x, const Saved& saved) {
  Fill(stream_, saved.sums, 0);
  if (!spec_.has_router) return ChooseOnlyExpert(saved);
  RouterForward(stream_, score_spec(),
                {.x = x,
                 .weight = parameters_.compute(weight_),
                 .weight_low = weight_low(),
                 .sigma = sigma(),
                 .bias = use_.bias.of(layer_),
                 .bias_reach = use_.bias.reach(),
                 .visible = use_.visible.of(layer_)},
                {.logits = saved.logits,
                 .scores = saved.scores,
                 .score_sum = saved.score_sum,
                 .experts = saved.experts,
                 .weights = saved.weights,
                 .counts = saved.counts,
                 .num_off = saved.num_off});
}

void Router::ChooseOnlyExpert(const Saved& saved) {
  const std::vector<float>& visible = spec_.visible[layer_];
  const auto expert = std::find(visible.begin(), visible.end(), 1.f) - visible.begin();
  Fill(stream_, saved.experts, static_cast<double>(expert));
  Fill(stream_, saved.weights, 1);
  Fill(stream_, saved.counts.Rows(expert, 1), static_cast<double>(saved.experts.size()));
}

void Router::Backward(const Tensor& x, const Saved& saved, const Booked& booked, const Tensor& dweights,
                      int64_t microbatch, const Tensor& dx, Scratch& scratch) {
  if (!spec_.has_router) return;
  if (use_.lock) {
    use_.lock->entropy().Book(layer_, {booked.score_sum.as<double>(), static_cast<size_t>(spec_.experts)});
  }
  const Tensor dlogits = scratch.dlogits.UseView(saved.logits.dtype, {x.rows(), spec_.experts});
  RouterScoresBackward(stream_, score_spec(), saved.logits, sigma(), use_.visible.of(layer_), saved.scores,
                       {.experts = saved.experts,
                        .dchosen = dweights,
                        .aux = use_.loss.Gradient(layer_, microbatch, booked.choices),
                        .dlogits = dlogits,
                        .dsigma = scale_ >= 0 ? parameters_.grad(scale_) : Tensor{},
                        .importance = use_.importance.of(layer_)});
  use_.loss.Book(booked.score_sum);
  Tensor high = dlogits;
  if (dlogits.dtype != x.dtype) {
    high = scratch.high.UseView(x.dtype, {x.rows(), spec_.experts});
    const Tensor low = scratch.low.UseView(x.dtype, {x.rows(), spec_.experts});
    SplitBf16(stream_, dlogits, high, low);
    Gemm(stream_, Trans::kYes, low, Trans::kNo, x, 1, parameters_.grad(weight_));
  }
  Gemm(stream_, Trans::kNo, high, Trans::kNo, parameters_.compute(weight_), 1, dx);
  Gemm(stream_, Trans::kYes, high, Trans::kNo, x, 1, parameters_.grad(weight_));
}

}  // namespace unipool
