#include "models/moe_layer.h"

#include <algorithm>

#include "kernels/permute.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"

namespace unipool {

MoeLayer::MoeLayer(const ModelSpec& spec, int layer, const ExpertPlacement& placement,
                   DenseParameters& parameters, ExpertUse& use, Stream& stream, MemoryMeter& memory)
    : spec_(spec),
      layer_(layer),
      placement_(placement),
      parameters_(parameters),
      use_(use),
      stream_(stream),
      norm_(parameters.Declare("model.layers." + std::to_string(layer) + ".post_attention_layernorm.weight",
                               {spec.hidden}, {.mean = 1}, WeightDecay::kNo)),
      router_(spec, layer, parameters, use, stream, memory),
      positive_choices_(spec.experts) {}

void MoeLayer::ForwardRoute(const Saved& saved, const SendOrder& send_order, int64_t microbatch) {
  RmsNormForward(stream_, saved.h, parameters_.compute(norm_), spec_.norm_eps, saved.normed, saved.inv_rms);
  router_.Forward(saved.normed, saved.router);
  OrderRows(stream_, saved.router.experts, saved.router.weights, send_order.index(), saved.order);
  if (!send_order.deals_rows()) return;
  DealRows(stream_, send_order.DealOf(layer_), saved.router.experts, send_order.Turn(layer_, microbatch),
           saved.order, saved.rows_of_place);
}

// Rows that are sent are the choices with a positive score.
LayerChoices MoeLayer::ChoicesOf(const Report& report) {
  const auto* rows = report.rows_of_place.as<int32_t>();
  std::fill(positive_choices_.begin(), positive_choices_.end(), 0);
  for (int place = 0; place < placement_.num_places(); ++place) {
    const int expert = placement_.send_order()[place];
    if (expert >= 0) positive_choices_[expert] += rows[place];
  }
  return {.all = report.router.counts,
          .positive = Tensor(positive_choices_.data(), DType::kI64, {spec_.experts}),
          .num_off = report.router.num_off.as<int64_t>()[0]};
}

void MoeLayer::Plan(Saved& saved) {
  const Report& report = saved.report;
  use_.statistics.AddLayer(layer_, ChoicesOf(report));
  SendPlan& plan = saved.handle.plan;
  std::copy_n(report.rows_of_place.as<int32_t>(), placement_.num_places(), plan.rows_of_expert.begin());
  BuildSendPlan(placement_, plan);
}

void MoeLayer::ForwardPermute(const Saved& saved, const Tensor& rows, Stream& stream) {
  Permute(stream, saved.normed, saved.tokens_of_rows(), rows);
}

void MoeLayer::ForwardUnpermute(const Saved& saved, const Tensor& out) {
  Unpermute(stream_, saved.rows_of_y(), saved.order.row_of, saved.router.weights, saved.h, out);
}

void MoeLayer::BackwardUnpermute(const Saved& saved, const Tensor& dout, const Tensor& rows,
                                 Scratch& scratch) {
  const Tensor dweights = scratch.dweights.UseView(AccumulatorOf(dout.dtype), {dout.rows(), spec_.top_k});
  UnpermuteBackward(stream_, dout, saved.rows_of_y(), saved.order.row_of, saved.router.weights, rows,
                    dweights);
}

void MoeLayer::BackwardPermute(const Saved& saved, const Tensor& returned, Scratch& scratch) {
  const Tensor dnormed = scratch.dnormed.UseView(saved.normed.dtype, {saved.normed.rows(), spec_.hidden});
  PermuteBackward(stream_, returned, saved.order.row_of, dnormed);
}

void MoeLayer::BackwardRoute(const Saved& saved, int64_t microbatch, const Tensor& dout, Scratch& scratch) {
  const Tensor dnormed = scratch.dnormed.View(dout.dtype, {dout.rows(), spec_.hidden});
  const Tensor dweights = scratch.dweights.View(AccumulatorOf(dout.dtype), {dout.rows(), spec_.top_k});
  const Router::Report& report = saved.report.router;
  router_.Backward(saved.normed, saved.router,
                   {.choices = ChoicesOf(saved.report), .score_sum = report.score_sum}, dweights, microbatch,
                   dnormed, scratch.router);
  RmsNormBackward(stream_, saved.h, parameters_.compute(norm_), saved.inv_rms, dnormed, dout, dout,
                  parameters_.grad(norm_));
}

}  // namespace unipool
