#include "models/moe_layer.h"

#include "kernels/permute.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"

namespace unipool {

namespace {

Tensor RowOf(const MoeLayer::Saved& saved) {
  const Tensor& weights = saved.router.weights;
  return Tensor(const_cast<int32_t*>(saved.handle.plan.row_of.data()), DType::kI32,
                {weights.dim(0), weights.dim(1)});
}

Tensor TokenOf(const MoeLayer::Saved& saved) {
  const SendPlan& plan = saved.handle.plan;
  return Tensor(const_cast<int32_t*>(plan.token_of.data()), DType::kI32, {plan.num_rows});
}

}  // namespace

MoeLayer::MoeLayer(const ModelSpec& spec, int layer, const ExpertPlacement& placement,
                   DenseParameters& parameters, LoadBalance& balance, Stream& stream)
    : spec_(spec),
      layer_(layer),
      placement_(placement),
      parameters_(parameters),
      balance_(balance),
      stream_(stream),
      norm_(parameters.Declare("model.layers." + std::to_string(layer) + ".post_attention_layernorm.weight",
                               {spec.hidden}, {.mean = 1}, false)),
      router_(spec, layer, parameters, balance, stream) {}

void MoeLayer::ForwardRoute(Saved& saved) {
  RmsNormForward(stream_, saved.h, parameters_.value(norm_), spec_.norm_eps, saved.normed, saved.inv_rms);
  const int64_t zero_tokens = router_.Forward(saved.normed, saved.router);
  balance_.AddLayer(layer_, saved.router.counts, zero_tokens);

  const int64_t num_choices = saved.router.weights.size();
  DispatchFloat(saved.h.dtype, [&]<class T>() {
    const T* weights = saved.router.weights.as<T>();
    for (int64_t i = 0; i < num_choices; ++i) saved.is_sent[i] = weights[i] != 0;
  });
  BuildSendPlan({saved.router.experts.as<int32_t>(), static_cast<size_t>(num_choices)}, saved.is_sent,
                static_cast<int>(spec_.top_k), placement_, saved.handle.plan);
}

void MoeLayer::ForwardRows(const Saved& saved, const Tensor& rows) {
  GatherRows(stream_, saved.normed, TokenOf(saved), rows);
}

void MoeLayer::ForwardCombine(const Saved& saved, const Tensor& out) {
  CombineRows(stream_, saved.rows_of_y(), RowOf(saved), saved.router.weights, saved.h, out);
}

void MoeLayer::BackwardRows(const Saved& saved, const Tensor& dout, const Tensor& rows, Scratch& scratch) {
  const Tensor dweights = scratch.dweights.UseView(dout.dtype, {dout.rows(), spec_.top_k});
  CombineRowsBackward(stream_, dout, saved.rows_of_y(), RowOf(saved), saved.router.weights, rows, dweights);
}

void MoeLayer::BackwardCombine(const Saved& saved, int64_t microbatch, const Tensor& returned,
                               const Tensor& dout, Scratch& scratch) {
  const Tensor dnormed = scratch.dnormed.UseView(dout.dtype, {dout.rows(), spec_.hidden});
  const Tensor dweights = scratch.dweights.View(dout.dtype, {dout.rows(), spec_.top_k});
  Fill(stream_, dnormed, 0);
  SumRows(stream_, returned, RowOf(saved), dnormed);
  router_.Backward(saved.normed, saved.router, dweights, microbatch, dnormed, scratch.dlogits);
  RmsNormBackward(stream_, saved.h, parameters_.value(norm_), saved.inv_rms, dnormed, dout, dout,
                  parameters_.grad(norm_));
}

}  // namespace unipool
