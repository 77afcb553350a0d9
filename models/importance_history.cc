#include "models/importance_history.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unipool {

namespace {
// The arrays of the state.
enum { kMean, kSpread, kChoices, kWindowImportance, kWindowChoices, kNumArrays };
}  // namespace

ImportanceHistory::ImportanceHistory(const ModelSpec& spec)
    : layers_(spec.layers),
      experts_(spec.experts),
      has_router_(spec.has_router),
      arrays_(kNumArrays * spec.layers * spec.experts),
      windows_and_steps_(2) {}

void ImportanceHistory::AddStep(std::span<const double> importance, std::span<const double> counts) {
  if (!has_router_) return;
  double *mean = array(kMean), *spread = array(kSpread), *choices = array(kChoices);
  double *importance_sum = array(kWindowImportance), *choices_sum = array(kWindowChoices);
  for (int64_t i = 0; i < size(); ++i) {
    importance_sum[i] += std::abs(importance[i]);
    choices_sum[i] += counts[i];
  }
  if (++windows_and_steps_[1] < kWindow) return;
  for (int64_t i = 0; i < size(); ++i) {
    const double now = importance_sum[i] / kWindow;
    mean[i] = kMeanDecay * mean[i] + (1 - kMeanDecay) * now;
    spread[i] = kSpreadDecay * spread[i] + (1 - kSpreadDecay) * std::abs(now - mean[i]);
    choices[i] = kMeanDecay * choices[i] + (1 - kMeanDecay) * choices_sum[i] / kWindow;
  }
  std::fill(importance_sum, importance_sum + size(), 0.0);
  std::fill(choices_sum, choices_sum + size(), 0.0);
  ++windows_and_steps_[0];
  windows_and_steps_[1] = 0;
}

std::vector<double> ImportanceHistory::Corrected(int i, double decay) const {
  std::vector<double> values(array(i), array(i) + size());
  const double weight = 1 - std::pow(decay, windows_and_steps_[0]);
  for (double& value : values) value /= weight;
  return values;
}

std::vector<double> ImportanceHistory::Mean() const {
  return Corrected(kMean, kMeanDecay);
}

std::vector<double> ImportanceHistory::Ucb() const {
  std::vector<double> mean = Mean();
  const std::vector<double> spread = Corrected(kSpread, kSpreadDecay);
  for (int64_t i = 0; i < size(); ++i) mean[i] = std::sqrt(mean[i] * spread[i]);
  return mean;
}

std::vector<double> ImportanceHistory::Counts() const {
  return Corrected(kChoices, kMeanDecay);
}

double ImportanceHistory::EffectiveExperts() const {
  std::vector<double> shares(experts_);
  const double* mean = array(kMean);
  for (int64_t i = 0; i < size(); ++i) shares[i % experts_] += mean[i];
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  double entropy = 0;
  for (const double share : shares) {
    if (share > 0) entropy -= share / total * std::log(share / total);
  }
  return std::exp(entropy);
}

std::vector<DiskTensor> ImportanceHistory::State() {
  if (!has_router_) return {};
  return {{.name = "importance.v1",
           .shape = {kNumArrays, layers_, experts_},
           .value = Tensor(arrays_.data(), DType::kF64, {kNumArrays, layers_, experts_}),
           .optional = true},
          {.name = "importance.v1.steps",
           .shape = {2},
           .value = Tensor(windows_and_steps_.data(), DType::kF64, {2}),
           .optional = true}};
}

}  // namespace unipool
