#include "models/balance_loss.h"

#include <algorithm>

#include "kernels/host_values.h"

namespace unipool {

BalanceLoss::BalanceLoss(const ModelSpec& spec, const BalanceOptions& options, PoolShares& shares,
                         DType dtype, Stream& stream, MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      shares_(shares),
      stream_(stream),
      groups_(BalanceGroupsOf(spec)),
      buffer_(Buffer::Allocate(memory, MemoryKind::kScratch, spec.experts * SizeOf(dtype))),
      device_gradient_(buffer_.View(dtype, {spec.experts})),
      gradient_(spec.experts),
      layer_shares_(spec.experts) {}

void BalanceLoss::BeginStep() {
  loss_ = loss_at_balance_ = 0;
}

Tensor BalanceLoss::Gradient(int layer, int64_t microbatch, const Tensor& counts) {
  const BalanceGroup& group = groups_[spec_.balance_group[layer]];
  shares_.Refresh(microbatch);
  samples_ = 0;
  std::fill(gradient_.begin(), gradient_.end(), 0.0);
  switch (options_.balance) {
    case Balance::POOL_LOSS:
      if (shares_.exist()) SetGradient(group.layers, group, shares_.of(spec_.balance_group[layer]));
      break;
    case Balance::LAYER_LOSS:
      SetGradient(1, group, SharesOf(counts));
      break;
    case Balance::BIAS:
    case Balance::NONE:
      break;
  }
  SetValues(stream_, gradient_, device_gradient_);
  return device_gradient_;
}

void BalanceLoss::SetGradient(int64_t layers, const BalanceGroup& group, std::span<const double> shares) {
  samples_ = static_cast<double>(layers * options_.tokens_per_step());
  const double scale = options_.coeff * static_cast<double>(group.experts) / samples_;
  for (int64_t i = 0; i < spec_.experts; ++i) gradient_[i] = scale * shares[i];
}

std::span<const double> BalanceLoss::SharesOf(const Tensor& counts) {
  const auto choices = static_cast<double>(options_.tokens_per_microbatch * spec_.top_k);
  for (int64_t i = 0; i < spec_.experts; ++i) {
    layer_shares_[i] = static_cast<double>(counts.as<int64_t>()[i]) / choices;
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
  loss_at_balance_ += options_.coeff * scores / samples_;  // every share would be 1 / experts
}

void BalanceLoss::AddTo(StepSums& sums) const {
  sums.pool_loss = loss_;
  sums.pool_loss_at_balance = loss_at_balance_;
}

}  // namespace unipool
