// Exact counts of which experts the tokens chose: per layer for the placement of experts, per balance group
// for shares and biases, and what people want to know of them.
//
// Choices without a positive score are ties: they add nothing to their token and are not sent, so they are no
// load. They are counted apart. Shares and biases see them or not, as moe.balance_counts says.
#pragma once

#include <span>
#include <vector>

#include "models/balance_options.h"
#include "models/step_sums.h"
#include "runtime/tensor.h"

namespace unipool {

class LoadStatistics {
 public:
  LoadStatistics(const ModelSpec& spec, BalanceCounts::Value counted);

  // Between steps: which experts layers may choose has changed.
  void SetVisibility(const Visibility& visibility) { groups_ = BalanceGroupsOf(spec_, visibility); }

  void BeginStep();
  // Books the choices of one layer (of the model) for the running forward microbatch.
  void AddLayer(int layer, const LayerChoices& choices);
  // This rank's counts [groups * M] of the running forward microbatch, of what moe.balance_counts says.
  std::span<const double> microbatch_counts() const { return microbatch_counts_; }
  void EndMicrobatch();  // the next one counts from zero

  // At the end of a step: AddTo fills in this rank's counts, EndStep takes them back summed over all ranks.
  void AddTo(StepSums& sums) const;
  void EndStep(const StepSums& sums);

  // Of the last finished step, over all ranks.
  const std::vector<double>& step_counts() const { return step_counts_; }  // [L * M] with a positive score
  std::span<const double> balanced_counts() const {
    return balanced_counts_;
  }  // [L * M] as balance_counts says
  std::span<const double> balanced_group_counts() const { return balanced_group_counts_; }  // [groups * M]
  // Over balance groups: largest load of an expert / mean load - 1.
  double MaxViolation() const;
  // Experts without load, of those that some layer may choose.
  int64_t NumDeadExperts() const;
  // Share of the choices that are ties.
  double TieShare() const { return tie_share_; }

 private:
  void SumUp(std::span<const double> layer_counts, std::vector<double>& group_counts) const;
  std::span<const double> LoadOfGroup(int64_t group) const;
  const ModelSpec& spec_;
  BalanceCounts::Value counted_;
  std::vector<BalanceGroup> groups_;
  std::vector<double> own_counts_, own_ties_;                // [L * M] of this rank in the running step
  std::vector<double> microbatch_counts_;                    // [groups * M]
  double zero_tokens_ = 0;                                   // of this rank in the running step
  std::vector<double> step_counts_, balanced_counts_;        // [L * M]
  std::vector<double> group_loads_, balanced_group_counts_;  // [groups * M]
  double tie_share_ = 0;
};

}  // namespace unipool
