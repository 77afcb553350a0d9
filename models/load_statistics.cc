#include "models/load_statistics.h"

#include <algorithm>
#include <numeric>

namespace unipool {

LoadStatistics::LoadStatistics(const ModelSpec& spec)
    : spec_(spec),
      groups_(BalanceGroupsOf(spec)),
      own_counts_(spec.layers * spec.experts),
      microbatch_counts_(spec.num_balance_groups * spec.experts),
      step_counts_(spec.layers * spec.experts),
      group_counts_(spec.num_balance_groups * spec.experts) {}

void LoadStatistics::BeginStep() {
  std::fill(own_counts_.begin(), own_counts_.end(), 0.0);
  zero_tokens_ = 0;
  EndMicrobatch();  // a validation may have counted
}

void LoadStatistics::AddLayer(int layer, const Tensor& counts, int64_t zero_tokens) {
  double* layer_counts = own_counts_.data() + layer * spec_.experts;
  double* group_counts = microbatch_counts_.data() + spec_.balance_group[layer] * spec_.experts;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    const auto count = static_cast<double>(counts.as<int64_t>()[i]);
    layer_counts[i] += count;
    group_counts[i] += count;
  }
  zero_tokens_ += static_cast<double>(zero_tokens);
}

void LoadStatistics::EndMicrobatch() {
  std::fill(microbatch_counts_.begin(), microbatch_counts_.end(), 0.0);
}

void LoadStatistics::AddTo(StepSums& sums) const {
  std::copy(own_counts_.begin(), own_counts_.end(), sums.counts.begin());
  sums.zero_tokens = zero_tokens_;
}

void LoadStatistics::EndStep(const StepSums& sums) {
  std::copy(sums.counts.begin(), sums.counts.end(), step_counts_.begin());
  std::fill(group_counts_.begin(), group_counts_.end(), 0.0);
  for (int l = 0; l < spec_.layers; ++l) {
    double* group_counts = group_counts_.data() + spec_.balance_group[l] * spec_.experts;
    for (int64_t i = 0; i < spec_.experts; ++i) group_counts[i] += step_counts_[l * spec_.experts + i];
  }
}

std::span<const double> LoadStatistics::CountsOfGroup(int64_t group) const {
  return std::span(group_counts_).subspan(group * spec_.experts, spec_.experts);
}

double LoadStatistics::MaxViolation() const {
  double most = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const std::span<const double> counts = CountsOfGroup(g);
    const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
    const double largest = std::max(0.0, *std::max_element(counts.begin(), counts.end()));
    const double mean = total / static_cast<double>(groups_[g].experts);
    if (mean > 0) most = std::max(most, largest / mean - 1);
  }
  return most;
}

int64_t LoadStatistics::NumDeadExperts() const {
  int64_t dead = 0;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    bool is_used = false;
    for (size_t g = 0; g < groups_.size(); ++g) is_used |= CountsOfGroup(g)[i] > 0;
    dead += !is_used;
  }
  return dead;
}

}  // namespace unipool
