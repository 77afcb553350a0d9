#include "models/balance_loss.h"

#include <algorithm>
#include <numeric>

#include "kernels/host_values.h"

namespace unipool {

BalanceLoss::BalanceLoss(const ModelSpec& spec, const BalanceOptions& options, PoolShares& shares,
                         DType dtype, Stream& stream, MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      shares_(shares),
      stream_(stream),
      buffer_(Buffer::Allocate(memory, MemoryKind::kScratch, spec.experts * SizeOf(dtype))),
      device_gradient_(buffer_.View(dtype, {spec.experts})),
      gradient_(spec.experts),
      layer_shares_(spec.experts) {
  SetVisibility(Visibility(spec));
}

void BalanceLoss::SetVisibility(const Visibility& visibility) {
  groups_ = BalanceGroupsOf(spec_, visibility);
  experts_of_layer_.clear();
  for (int layer = 0; layer < spec_.layers; ++layer)
    experts_of_layer_.push_back(visibility.num_choosable(layer));
}

void BalanceLoss::BeginStep() {
  loss_ = loss_at_balance_ = 0;
}

Tensor BalanceLoss::Gradient(int layer, int64_t microbatch, const LayerChoices& choices) {
  const BalanceGroup& group = groups_[spec_.balance_group[layer]];
  shares_.Refresh(microbatch);
  samples_ = 0;
  std::fill(gradient_.begin(), gradient_.end(), 0.0);
  switch (options_.balance) {
    case Balance::POOL_LOSS:
      if (shares_.exist()) SetGradient(group.layers, group.experts, shares_.of(spec_.balance_group[layer]));
      break;
    case Balance::LAYER_LOSS:
      SetGradient(1, experts_of_layer_[layer], SharesOf(choices));
      break;
    case Balance::BIAS:
    case Balance::NONE:
      break;
  }
  SetValues(stream_, WithEntropy(layer), device_gradient_);
  return device_gradient_;
}

const std::vector<double>& BalanceLoss::WithEntropy(int layer) {
  if (!entropy_) return gradient_;
  const std::span<const double> added = entropy_->of(layer);
  with_entropy_ = gradient_;
  for (int64_t i = 0; i < spec_.experts; ++i) with_entropy_[i] += added[i];
  return with_entropy_;
}

void BalanceLoss::SetGradient(int64_t layers, int64_t experts, std::span<const double> shares) {
  samples_ = static_cast<double>(layers * options_.tokens_per_step());
  const double scale = options_.coeff * static_cast<double>(experts) / samples_;
  const double even = options_.hinge ? 1 / static_cast<double>(experts) : 0;
  for (int64_t i = 0; i < spec_.experts; ++i) gradient_[i] = scale * std::max(0.0, shares[i] - even);
}

std::span<const double> BalanceLoss::SharesOf(const LayerChoices& choices) {
  const auto* counts = choices.Counted(options_.counts).as<int64_t>();
  const auto total = static_cast<double>(std::accumulate(counts, counts + spec_.experts, int64_t{0}));
  for (int64_t i = 0; i < spec_.experts; ++i) {
    layer_shares_[i] = total > 0 ? static_cast<double>(counts[i]) / total : 0;
  }
  return layer_shares_;
}

void BalanceLoss::Book(const Tensor& score_sum) {
  if (samples_ == 0) return;
  double loss = 0, scores = 0;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    loss += gradient_[i] * score_sum.as<double>()[i];
    scores += score_sum.as<double>()[i];
  }
  loss_ += loss;
  if (options_.hinge) return;                              // the loss at balance is 0
  loss_at_balance_ += options_.coeff * scores / samples_;  // every share would be 1 / experts
}

void BalanceLoss::AddTo(StepSums& sums) const {
  sums.pool_loss = loss_;
  sums.pool_loss_at_balance = loss_at_balance_;
}

}  // namespace unipool
