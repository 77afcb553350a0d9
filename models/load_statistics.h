// Exact counts of which experts the tokens chose: per layer for the placement of experts, per balance group
// for shares and biases, and what people want to know of them.
#pragma once

#include <span>
#include <vector>

#include "models/balance_options.h"
#include "models/step_sums.h"
#include "runtime/tensor.h"

namespace unipool {

class LoadStatistics {
 public:
  explicit LoadStatistics(const ModelSpec& spec);

  void BeginStep();
  // Books the choices of one layer (of the model) for the running forward microbatch; zero_tokens counts its
  // tokens without a positive score. Host memory.
  void AddLayer(int layer, const Tensor& counts /*[M] I64*/, int64_t zero_tokens);
  // This rank's counts [groups * M] of the running forward microbatch.
  std::span<const double> microbatch_counts() const { return microbatch_counts_; }
  void EndMicrobatch();  // the next one counts from zero

  // At the end of a step: AddTo fills in this rank's counts, EndStep takes them back summed over all ranks.
  void AddTo(StepSums& sums) const;
  void EndStep(const StepSums& sums);

  // Of the last finished step, over all ranks.
  const std::vector<double>& step_counts() const { return step_counts_; }  // [L * M]
  std::span<const double> group_counts() const { return group_counts_; }   // [groups * M]
  // Over balance groups: largest load of an expert / mean load - 1.
  double MaxViolation() const;
  // Experts that no token chose.
  int64_t NumDeadExperts() const;

 private:
  std::span<const double> CountsOfGroup(int64_t group) const;
  const ModelSpec& spec_;
  std::vector<BalanceGroup> groups_;
  std::vector<double> own_counts_;         // [L * M] of this rank in the running step
  std::vector<double> microbatch_counts_;  // [groups * M]
  double zero_tokens_ = 0;                 // of this rank in the running step
  std::vector<double> step_counts_, group_counts_;
};

}  // namespace unipool
