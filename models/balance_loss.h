// The losses that keep experts evenly used (models/POOL_LOSS.md): the pool loss over a balance group's
// layers, and the Switch loss of one layer.
//
//   L_pool = alpha * M * sum_i fbar_i * Pbar_i,  averaged over microbatches, summed over balance groups
//
// fbar_i is the share of the group's choices that went to expert i (pool_shares.h). Pbar_i is the mean score
// of expert i over the group's layers and the tokens. M counts the group's experts. Only Pbar carries
// gradient, and the loss is linear in it. So the gradient is one number per expert, the same for the score of
// every token:
//
//   g_i = alpha * M * fbar_i / (layers * T * microbatches of all data ranks)
//   L_pool = sum of g_i * s_i over all scores s_i
//
// While there are no shares, there is no loss. Shares are those of all choices or of the positive ones
// (moe.balance_counts). With the hinge (moe.balance_hinge) max(0, fbar_i - 1 / M) stands in place of fbar_i,
// and the loss is 0 at balance.
//
// The Switch loss is alpha * M * sum_i f_i * P_i, summed over layers. It uses the share f and the mean score
// P of one layer's microbatch. Its g is the formula above with f in place of fbar and layers = 1.
#pragma once

#include <span>
#include <vector>

#include "models/balance_options.h"
#include "models/lock/entropy_loss.h"
#include "models/pool_shares.h"
#include "models/step_sums.h"
#include "runtime/stream.h"

namespace unipool {

class BalanceLoss {
 public:
  // `dtype` is the type of the router's numbers. `memory` counts the memory of the stream's device. `shares`
  // must outlive it.
  BalanceLoss(const ModelSpec& spec, const BalanceOptions& options, PoolShares& shares, DType dtype,
              Stream& stream, MemoryMeter& memory);

  // Between steps: which experts layers may choose has changed.
  void SetVisibility(const Visibility& visibility);

  // Adds that loss's gradient to what Gradient returns; it must outlive this.
  void SetEntropyLoss(const EntropyLoss* entropy) { entropy_ = entropy; }

  void BeginStep();

  // In the backward, once per layer and microbatch, Gradient and then Book.
  // The gradient of every score of expert i in this layer, [M]; zeros where there is no loss. `choices` are
  // the layer's in the microbatch. Valid in the stream until the next call.
  Tensor Gradient(int layer, int64_t microbatch, const LayerChoices& choices);
  // Books the layer's part of the loss: the last Gradient times the sums of the scores, in host memory.
  void Book(const Tensor& score_sum /*[M] F64*/);

  // Fills in what this rank has booked since BeginStep.
  void AddTo(StepSums& sums) const;

 private:
  // gradient_ of a loss over so many layers and experts, by these shares [M].
  void SetGradient(int64_t layers, int64_t experts, std::span<const double> shares);
  const std::vector<double>& WithEntropy(int layer);  // gradient_ and that of the entropy loss
  std::span<const double> SharesOf(const LayerChoices& choices);
  const ModelSpec& spec_;
  BalanceOptions options_;
  PoolShares& shares_;
  Stream& stream_;
  std::vector<BalanceGroup> groups_;
  std::vector<int64_t> experts_of_layer_;  // that it may choose
  Buffer buffer_;
  Tensor device_gradient_;            // [M] of the router's type
  std::vector<double> gradient_;      // [M] of the last Gradient
  std::vector<double> layer_shares_;  // [M] of LAYER_LOSS
  const EntropyLoss* entropy_ = nullptr;
  std::vector<double> with_entropy_;  // [M]
  double samples_ = 0;                // over which the last Gradient's Pbar is a mean; 0: there is no loss
  double loss_ = 0, loss_at_balance_ = 0;
};

}  // namespace unipool
