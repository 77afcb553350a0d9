// The numbers of a step that all ranks add up, in one exchange of the host: each rank fills in its own share,
// Reduce makes every number the sum over all ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/model_spec.h"
#include "parallel/held_rows.h"
#include "runtime/communicator.h"

namespace unipool {

struct StepSums {
  static constexpr int kMostRiders = 16;

  // num_traffic: numbers of what exchanges cost (TrafficStepSums); 0: they are not recorded. has_scores: the
  // sums of scores are wanted.
  StepSums(const ModelSpec& spec, int num_ranks, int64_t num_traffic = 0, bool has_scores = false);

  // How many numbers travel. `counts`: L * M; `experts`: M.
  static int64_t NumNumbers(int64_t counts, int64_t experts, int num_ranks, int64_t num_traffic,
                            bool has_scores);

  double loss = 0;                  // of tokens, without the balancing loss
  double pool_loss = 0;             // the balancing loss, as it is added to the training loss
  double pool_loss_at_balance = 0;  // what it would be if every expert had the same share
  double zero_tokens = 0;           // token-layers without a positive score
  double used_experts = 0;          // UsedExperts::shares and its batches (parallel/token_dispatcher.h)
  double expert_batches = 0;
  std::vector<double> counts;        // [L * M] choices of each layer with a positive score
  std::vector<double> ties;          // [L * M] choices of each layer without one
  std::vector<double> scores;        // [L * M] sums of each layer's scores; empty: not wanted
  std::vector<double> importance;    // [L * M] of each layer's experts (expert_importance.h)
  std::vector<double> grad_squares;  // [1 + M] squared norms: the dense gradients, each expert's gradient
  std::vector<double> riders;        // [kMostRiders] numbers of the engine's caller
  std::vector<double> traffic;       // [num_traffic]
  std::vector<double> memory_peaks;  // [ranks * kNumMemoryKinds] bytes; a rank fills in its own row
  std::vector<double> held_rows;     // [ranks * HeldRows::kNumNumbers]; a rank fills in its own row

  // This rank's row of memory_peaks, or another's.
  std::span<double> memory_of(int rank);
  std::span<const double> memory_of(int rank) const;
  void SetRowsOf(int rank, const HeldRows& rows);
  HeldRows RowsOf(int rank) const;

  // Loss and gradient norm are finite numbers. Otherwise the step must change nothing.
  bool AreFinite() const;

  void Clear();
  // Collective over `world`, whose sums are taken in rank order. Allocates nothing.
  void Reduce(Communicator& world, int64_t step);

 private:
  // Calls visit(number) for each number in the order in which they travel.
  template <class Visit>
  void ForEach(Visit visit);
  std::vector<double> exchanged_;
};

}  // namespace unipool
