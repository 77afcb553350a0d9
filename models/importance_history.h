// How important each expert has been to each layer over the last steps, as PLATON smooths the importance of
// weights (arXiv 2206.12562), one number per (layer, expert) instead of one per weight:
//
//   I_t  = |importance of step t|, the sum over all ranks (expert_importance.h)
//   I    = mean of I_t over a window of kWindow steps, then once per window
//   Ibar = b1 * Ibar + (1 - b1) * I                 b1 = kMeanDecay
//   U    = b2 * U + (1 - b2) * |I - Ibar|           b2 = kSpreadDecay, with the new Ibar
//   UCB  = sqrt(Ibar * U)
//
// PLATON orders by Ibar * U; the root keeps that order and the unit of the loss, so that sums over layers
// mean something. Choices are smoothed like I. Values are corrected for their start at 0, as Adam's moments
// are.
#pragma once

#include <span>
#include <vector>

#include "models/model_spec.h"
#include "models/parameter.h"

namespace unipool {

class ImportanceHistory {
 public:
  static constexpr int64_t kWindow = 10;
  static constexpr double kMeanDecay = 0.85, kSpreadDecay = 0.95;

  explicit ImportanceHistory(const ModelSpec& spec);

  // Of a finished step, over all ranks: importance and choices, [L * M] each. Allocates nothing.
  void AddStep(std::span<const double> importance, std::span<const double> counts);

  int64_t experts() const { return experts_; }               // M
  double windows() const { return windows_and_steps_[0]; }   // that are done
  bool exists() const { return windows_and_steps_[0] > 0; }  // false before the first window is full
  // [L * M]. REQUIRES: exists().
  std::vector<double> Mean() const;    // Ibar in nats: what a step's mean loss would lose, to first order
  std::vector<double> Ucb() const;     // nats
  std::vector<double> Counts() const;  // choices a step
  // exp(entropy) of the experts' shares of the importance of all layers, 1..M. REQUIRES: exists().
  double EffectiveExperts() const;

  // For checkpoints, the same on all ranks; none in models without a router. "importance.v1" [5, L, M]: Ibar,
  // U, smoothed choices, and the sums of importance and choices in the running window. "importance.v1.steps"
  // [2]: windows done, steps of the running one.
  std::vector<DiskTensor> State();

 private:
  int64_t size() const { return layers_ * experts_; }
  double* array(int i) { return arrays_.data() + i * size(); }
  const double* array(int i) const { return arrays_.data() + i * size(); }
  std::vector<double> Corrected(int i, double decay) const;

  int64_t layers_, experts_;
  bool has_router_;
  std::vector<double> arrays_;  // [5, L, M], see State
  std::vector<double> windows_and_steps_;
};

}  // namespace unipool
