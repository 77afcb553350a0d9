#include "models/load_statistics.h"

#include <algorithm>
#include <numeric>

namespace unipool {

LoadStatistics::LoadStatistics(const ModelSpec& spec, BalanceCounts::Value counted)
    : spec_(spec),
      counted_(counted),
      groups_(BalanceGroupsOf(spec, Visibility(spec))),
      own_counts_(spec.layers * spec.experts),
      own_ties_(own_counts_),
      microbatch_counts_(spec.num_balance_groups * spec.experts),
      step_counts_(own_counts_),
      balanced_counts_(own_counts_),
      group_loads_(microbatch_counts_),
      balanced_group_counts_(microbatch_counts_) {}

void LoadStatistics::BeginStep() {
  std::fill(own_counts_.begin(), own_counts_.end(), 0.0);
  std::fill(own_ties_.begin(), own_ties_.end(), 0.0);
  zero_tokens_ = 0;
  EndMicrobatch();  // a validation may have counted
}

void LoadStatistics::AddLayer(int layer, const LayerChoices& choices) {
  const auto *all = choices.all.as<int64_t>(), *positive = choices.positive.as<int64_t>();
  const auto* counted = choices.Counted(counted_).as<int64_t>();
  const int64_t first = layer * spec_.experts;
  double* group_counts = microbatch_counts_.data() + spec_.balance_group[layer] * spec_.experts;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    own_counts_[first + i] += static_cast<double>(positive[i]);
    own_ties_[first + i] += static_cast<double>(all[i] - positive[i]);
    group_counts[i] += static_cast<double>(counted[i]);
  }
  zero_tokens_ += static_cast<double>(choices.num_off);
}

void LoadStatistics::EndMicrobatch() {
  std::fill(microbatch_counts_.begin(), microbatch_counts_.end(), 0.0);
}

void LoadStatistics::AddTo(StepSums& sums) const {
  std::copy(own_counts_.begin(), own_counts_.end(), sums.counts.begin());
  std::copy(own_ties_.begin(), own_ties_.end(), sums.ties.begin());
  sums.zero_tokens = zero_tokens_;
}

void LoadStatistics::EndStep(const StepSums& sums) {
  std::copy(sums.counts.begin(), sums.counts.end(), step_counts_.begin());
  balanced_counts_ = step_counts_;
  if (counted_ == BalanceCounts::ALL) {
    for (size_t i = 0; i < balanced_counts_.size(); ++i) balanced_counts_[i] += sums.ties[i];
  }
  SumUp(step_counts_, group_loads_);
  SumUp(balanced_counts_, balanced_group_counts_);
  const double loads = std::accumulate(sums.counts.begin(), sums.counts.end(), 0.0);
  const double ties = std::accumulate(sums.ties.begin(), sums.ties.end(), 0.0);
  tie_share_ = ties > 0 ? ties / (loads + ties) : 0;
}

void LoadStatistics::SumUp(std::span<const double> layer_counts, std::vector<double>& group_counts) const {
  std::fill(group_counts.begin(), group_counts.end(), 0.0);
  for (int l = 0; l < spec_.layers; ++l) {
    double* counts = group_counts.data() + spec_.balance_group[l] * spec_.experts;
    for (int64_t i = 0; i < spec_.experts; ++i) counts[i] += layer_counts[l * spec_.experts + i];
  }
}

std::span<const double> LoadStatistics::LoadOfGroup(int64_t group) const {
  return std::span(group_loads_).subspan(group * spec_.experts, spec_.experts);
}

double LoadStatistics::MaxViolation() const {
  double most = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const std::span<const double> loads = LoadOfGroup(g);
    const double total = std::accumulate(loads.begin(), loads.end(), 0.0);
    const double largest = std::max(0.0, *std::max_element(loads.begin(), loads.end()));
    const double mean = total / static_cast<double>(groups_[g].experts);
    if (mean > 0) most = std::max(most, largest / mean - 1);
  }
  return most;
}

int64_t LoadStatistics::NumDeadExperts() const {
  int64_t dead = 0;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    bool is_used = false, can_be = false;
    for (size_t g = 0; g < groups_.size(); ++g) {
      is_used |= LoadOfGroup(g)[i] > 0;
      can_be |= groups_[g].chooses[i];
    }
    dead += can_be && !is_used;
  }
  return dead;
}

}  // namespace unipool
