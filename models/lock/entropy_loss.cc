#include "models/lock/entropy_loss.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unipool {
namespace {

constexpr double kEpsilon = 1e-8;

}  // namespace

double ScoreEntropy(std::span<const double> scores) {
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0) + kEpsilon;
  double entropy = 0;
  for (const double score : scores) entropy -= score / sum * std::log(score / sum + kEpsilon);
  return entropy;
}

// dH/dp_j = -(ln(p_j + e) + p_j / (p_j + e)) = h_j, and dH/dP_i = (h_i - sum_j p_j h_j) / sum.
void EntropyGradient(std::span<const double> scores, double target, double factor,
                     std::span<double> gradient) {
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0) + kEpsilon;
  double mean = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double p = scores[i] / sum;
    gradient[i] = -(std::log(p + kEpsilon) + p / (p + kEpsilon));
    mean += p * gradient[i];
  }
  const double outer = factor * 2 * (ScoreEntropy(scores) - std::log(target)) / sum;
  const bool has_scores = sum > 2 * kEpsilon;
  for (size_t i = 0; i < scores.size(); ++i) gradient[i] = has_scores ? outer * (gradient[i] - mean) : 0;
}

EntropyLoss::EntropyLoss(const ModelSpec& spec, const BalanceOptions& options, double target)
    : spec_(spec),
      options_(options),
      target_(target),
      gradient_(spec.layers * spec.experts),
      score_sums_(gradient_),
      mean_scores_(gradient_),
      microbatch_(spec.experts) {}

void EntropyLoss::BeginStep(double coeff) {
  coeff_ = coeff;
  std::fill(score_sums_.begin(), score_sums_.end(), 0.0);
  if (!of_steps()) return;
  for (int layer = 0; layer < spec_.layers; ++layer) SetGradient(layer, Row(mean_scores_, layer));
}

void EntropyLoss::SetGradient(int layer, std::span<const double> scores) {
  const double factor = coeff_ / static_cast<double>(spec_.layers * options_.tokens_per_step());
  EntropyGradient(scores, target_, factor,
                  std::span(gradient_).subspan(layer * spec_.experts, spec_.experts));
}

void EntropyLoss::Book(int layer, std::span<const double> score_sum) {
  double* sums = score_sums_.data() + layer * spec_.experts;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    sums[i] += score_sum[i];
    microbatch_[i] = score_sum[i] / static_cast<double>(options_.tokens_per_microbatch);
  }
  if (!of_steps()) SetGradient(layer, microbatch_);
}

void EntropyLoss::AddTo(StepSums& sums) const {
  std::copy(score_sums_.begin(), score_sums_.end(), sums.scores.begin());
}

void EntropyLoss::EndStep(const StepSums& sums) {
  if (!sums.AreFinite()) return;
  const auto tokens = static_cast<double>(options_.tokens_per_step());
  std::transform(sums.scores.begin(), sums.scores.end(), mean_scores_.begin(),
                 [&](double sum) { return sum / tokens; });
  entropy_ = loss_ = 0;
  for (int layer = 0; layer < spec_.layers; ++layer) {
    const double entropy = ScoreEntropy(Row(mean_scores_, layer));
    const double off = entropy - std::log(target_);
    entropy_ += entropy / static_cast<double>(spec_.layers);
    loss_ += coeff_ * off * off / static_cast<double>(spec_.layers);
  }
}

std::vector<DiskTensor> EntropyLoss::State() {
  return {{.name = "lock.mean_scores",
           .shape = {spec_.layers, spec_.experts},
           .value = Tensor(mean_scores_.data(), DType::kF64, {spec_.layers, spec_.experts})}};
}

}  // namespace unipool
