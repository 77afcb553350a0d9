// What balancing losses, shares, biases and load statistics of whole training steps must be by their formulas
// (models/POOL_LOSS.md), computed from the routing of the plain reference model.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "tests/models/reference_model.h"
#include "tests/models/small_model.h"

namespace unipool {

inline constexpr uint64_t kSampleKey = 99;

using Counts = std::vector<std::vector<double>>;  // [balance group][expert]

// What one microbatch shows of the routing.
struct Microbatch {
  std::vector<std::vector<double>> counts, positive, score_sums;  // [layer][expert]
  int zero_tokens = 0;
};

class ExpectedBalance {
 public:
  ExpectedBalance(const Config& config, int data_ranks, const std::vector<DiskTensor>& weights)
      : config_(config), data_ranks_(data_ranks), model_(config, weights) {}

  // The steps that follow have this configuration and number of data ranks.
  void Continue(const Config& config, int data_ranks) {
    config_ = config;
    data_ranks_ = data_ranks;
  }
  void ForgetShares() { microbatches_.clear(); }

  // Runs a step's forward passes. Microbatch g of the global batch belongs to data rank g % data_ranks.
  void Step(int64_t step) {
    const int count = config_.train().global_batch() / config_.train().micro_batch();
    before_ = std::move(microbatches_);
    ranks_before_ = ranks_now_;
    ranks_now_ = data_ranks_;
    microbatches_.clear();
    for (int g = 0; g < count; ++g) microbatches_.push_back(Forward(step, g));
  }

  // After Step: the loss of the step.
  double Loss() const {
    double loss = 0;
    for (int g = 0; g < static_cast<int>(microbatches_.size()); ++g) loss += LossOf(g);
    return loss / static_cast<double>(microbatches_.size());
  }

  Counts StepCounts() const {
    return CountsOf(microbatches_, [](int) { return true; });
  }
  // Of choices with a positive score, whatever the balance counts.
  Counts StepLoads() const {
    return CountsOf(
        microbatches_, [](int) { return true; }, &Microbatch::positive);
  }
  double TieShare() const {
    double all = 0, positive = 0;
    for (const Microbatch& microbatch : microbatches_) {
      for (const std::vector<double>& layer : microbatch.counts) all += Sum(layer);
      for (const std::vector<double>& layer : microbatch.positive) positive += Sum(layer);
    }
    return (all - positive) / all;
  }
  double ZeroScoreShare() const {
    double zero = 0;
    for (const Microbatch& microbatch : microbatches_) zero += microbatch.zero_tokens;
    const double tokens = config_.train().global_batch() * config_.model().seq_length();
    return zero / (tokens * config_.model().layers());
  }
  double MaxViolation() const {
    double worst = 0;
    for (const std::vector<double>& counts : StepLoads()) {
      const double total = Sum(counts);
      const double most = *std::max_element(counts.begin(), counts.end());
      worst = std::max(worst, most / (total / model_.experts_per_group()) - 1);
    }
    return worst;
  }
  int DeadExperts() const {
    const Counts counts = StepLoads();
    int dead = 0;
    for (int i = 0; i < config_.moe().experts(); ++i) {
      dead += std::all_of(counts.begin(), counts.end(), [&](const auto& group) { return group[i] == 0; });
    }
    return dead;
  }

  // Aux-free: the rule's next biases.
  void MoveBiases() {
    const bool is_own = config_.moe().bias_scope() == BiasScope::LAYER;
    const Counts of_groups = StepCounts(), of_layers = LayerCounts();
    for (int layer = 0; layer < config_.model().layers(); ++layer) {
      const std::vector<double>& counts = is_own ? of_layers[layer] : of_groups[model_.group_of(layer)];
      double mean = 0;
      for (double count : counts) mean += count / model_.experts_per_group();
      std::vector<double>& bias =
          model_.weight("model.layers." + std::to_string(layer) + ".mlp.router." + model_.BiasName());
      for (int i = 0; i < config_.moe().experts(); ++i) {
        if (!model_.sees(layer, i)) continue;
        const double direction = counts[i] < mean ? 1 : counts[i] > mean ? -1 : 0;
        bias[i] += direction * config_.moe().balance_coeff();
      }
    }
  }
  ReferenceModel& model() { return model_; }

 private:
  Microbatch Forward(int64_t step, int g) const {
    const int layers = config_.model().layers(), experts = config_.moe().experts();
    const std::vector<std::vector<double>> zeros(layers, std::vector<double>(experts, 0.0));
    Microbatch result{.counts = zeros, .positive = zeros, .score_sums = zeros};
    for (int i = 0; i < config_.train().micro_batch(); ++i) {
      std::vector<int32_t> sample;
      for (int position = 0; position <= config_.model().seq_length(); ++position) {
        sample.push_back(SampleToken(kSampleKey, step, g * config_.train().micro_batch() + i, position,
                                     config_.model().vocab()));
      }
      const auto choices = model_.Forward(sample.data()).choices;
      for (int layer = 0; layer < layers; ++layer) {
        for (const ReferenceModel::Choice& choice : choices[layer]) {
          for (int e = 0; e < experts; ++e) result.score_sums[layer][e] += choice.scores[e];
          bool is_off = true;
          for (int e : choice.chosen) {
            result.counts[layer][e] += 1;
            result.positive[layer][e] += choice.scores[e] > 0;
            is_off = is_off && !(choice.scores[e] > 0);
          }
          result.zero_tokens += is_off;
        }
      }
    }
    return result;
  }

  static double Sum(const std::vector<double>& numbers) {
    return std::accumulate(numbers.begin(), numbers.end(), 0.0);
  }
  // What moe.balance_counts says.
  std::vector<std::vector<double>> Microbatch::*Counted() const {
    return config_.moe().balance_counts() == BalanceCounts::POSITIVE ? &Microbatch::positive
                                                                     : &Microbatch::counts;
  }
  Counts LayerCounts() const {
    Counts counts(config_.model().layers(), std::vector<double>(config_.moe().experts(), 0.0));
    for (const Microbatch& microbatch : microbatches_) {
      for (size_t layer = 0; layer < counts.size(); ++layer) {
        for (size_t e = 0; e < counts[layer].size(); ++e)
          counts[layer][e] += (microbatch.*Counted())[layer][e];
      }
    }
    return counts;
  }

  template <class Which>
  Counts CountsOf(const std::vector<Microbatch>& microbatches, Which which,
                  std::vector<std::vector<double>> Microbatch::*counted = nullptr) const {
    if (!counted) counted = Counted();
    Counts counts(model_.num_groups(), std::vector<double>(config_.moe().experts(), 0.0));
    for (int g = 0; g < static_cast<int>(microbatches.size()); ++g) {
      if (!which(g)) continue;
      for (int layer = 0; layer < config_.model().layers(); ++layer) {
        for (int e = 0; e < config_.moe().experts(); ++e)
          counts[model_.group_of(layer)][e] += (microbatches[g].*counted)[layer][e];
      }
    }
    return counts;
  }

  // The choices that the shares of microbatch g come from; none: an empty vector.
  Counts Source(int g) const {
    if (config_.moe().balance_scope() == BalanceScope::STEP) {
      return before_.empty() ? Counts{} : CountsOf(before_, [](int) { return true; });
    }
    const int round = g / data_ranks_;
    if (round == 0 && before_.empty()) return {};
    const int ranks = round == 0 ? ranks_before_ : data_ranks_;
    const int previous = round == 0 ? static_cast<int>(before_.size()) / ranks - 1 : round - 1;
    const bool own = config_.moe().balance_scope() == BalanceScope::RANK;
    return CountsOf(round == 0 ? before_ : microbatches_, [&](int other) {
      return other / ranks == previous && (!own || other % ranks == g % ranks);
    });
  }

  // What scores of an expert with this share are pushed down by.
  double Pushed(double share) const {
    return config_.moe().balance_hinge() ? std::max(0.0, share - 1.0 / model_.experts_per_group()) : share;
  }

  double LossOf(int g) const {
    const MoeConfig& moe = config_.moe();
    const int layers = config_.model().layers();
    const double tokens = config_.train().micro_batch() * config_.model().seq_length();
    const double unit = moe.balance_coeff() * model_.experts_per_group();
    double loss = 0;
    if (moe.balance() == Balance::LAYER_LOSS) {
      for (int layer = 0; layer < layers; ++layer) {
        const std::vector<double>& counts = (microbatches_[g].*Counted())[layer];
        for (int e = 0; e < moe.experts(); ++e)
          loss += unit * Pushed(counts[e] / Sum(counts)) * microbatches_[g].score_sums[layer][e] / tokens;
      }
    }
    if (moe.balance() != Balance::POOL_LOSS) return loss;
    const Counts source = Source(g);
    for (size_t group = 0; group < source.size(); ++group) {
      double total = 0, group_layers = 0;
      for (double count : source[group]) total += count;
      for (int layer = 0; layer < layers; ++layer)
        group_layers += model_.group_of(layer) == static_cast<int>(group);
      for (int e = 0; e < moe.experts(); ++e) {
        double score_sum = 0;
        for (int layer = 0; layer < layers; ++layer) {
          if (model_.group_of(layer) == static_cast<int>(group))
            score_sum += microbatches_[g].score_sums[layer][e];
        }
        loss += unit * Pushed(source[group][e] / total) * score_sum / (tokens * group_layers);
      }
    }
    return loss;
  }

  Config config_;
  int data_ranks_, ranks_now_ = 0, ranks_before_ = 0;  // configured; in this step and in the one before
  ReferenceModel model_;
  std::vector<Microbatch> microbatches_, before_;  // of this step and the one before
};

}  // namespace unipool
