// UniPool-lock's loss that lets each layer settle on few experts. Of a layer with mean scores P [M]:
//
//   p = P / (sum P + 1e-8),  H = -sum p ln(p + 1e-8),  loss = coeff (H - ln target)^2 / L
//
// so exp(H), the number of experts in use, is drawn to `target`. Its gradient is one number per expert, the
// same for the score of every token, and travels with that of the balancing loss.
//
// With moe.balance_scope STEP, P is the mean over all tokens of the step before, on all ranks: no layout
// changes it, and the first step has no loss. With MICROBATCH and RANK it is the mean over the microbatch of
// the rank itself, as in the authors' code.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/balance_options.h"
#include "models/parameter.h"
#include "models/step_sums.h"

namespace unipool {

// Entropy of mean scores [M] in nats.
double ScoreEntropy(std::span<const double> scores);
// gradient[i] = factor * d/dP_i of (H - ln target)^2. Scores without any sum have none.
void EntropyGradient(std::span<const double> scores, double target, double factor,
                     std::span<double> gradient);

class EntropyLoss {
 public:
  EntropyLoss(const ModelSpec& spec, const BalanceOptions& options, double target);

  void BeginStep(double coeff);
  // In the backward, once per layer and microbatch: sums of the layer's scores over the microbatch's tokens.
  void Book(int layer, std::span<const double> score_sum /*[M]*/);
  // The gradient of every score of an expert in this layer, [M], after Book.
  std::span<const double> of(int layer) const {
    return std::span(gradient_).subspan(layer * spec_.experts, spec_.experts);
  }
  void AddTo(StepSums& sums) const;
  // With the sums over all ranks. A step whose sums are not finite leaves all as it was.
  void EndStep(const StepSums& sums);

  // Of the last finished step: mean over layers of the entropy, and the loss that these mean scores have.
  double entropy() const { return entropy_; }
  double loss() const { return loss_; }

  std::vector<DiskTensor> State();  // mean scores of the last finished step

 private:
  bool of_steps() const { return options_.scope == BalanceScope::STEP; }
  std::span<const double> Row(const std::vector<double>& rows, int layer) const {
    return std::span(rows).subspan(layer * spec_.experts, spec_.experts);
  }
  void SetGradient(int layer, std::span<const double> scores);
  const ModelSpec& spec_;
  const BalanceOptions options_;
  const double target_;
  double coeff_ = 0, entropy_ = 0, loss_ = 0;
  std::vector<double> gradient_, score_sums_, mean_scores_;  // [L * M]
  std::vector<double> microbatch_;                           // [M] mean scores
};

}  // namespace unipool
