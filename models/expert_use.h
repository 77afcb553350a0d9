// Everything that the layers of a rank share about the use of experts. One object per rank; the routers and
// MoE layers write and read its parts during a step, the engine closes the step.
//
//   visibility  which experts a layer may choose
//   visible     the same on the device
//   statistics  which experts the tokens chose
//   shares      the share of each expert, as the pool loss uses it
//   loss        pool loss and Switch loss: adds a gradient to the scores
//   bias        balance without a loss: moves the choice
//   lock        gives each expert to one layer (moe.lock); none without
//   importance  how much the training loss depends on each expert
//   history     the same, smoothed over steps
//
// What a step does to them:
//   BeginStep          counts, booked loss and importance are zero
//   AddLayer           (statistics) a layer's choices of a forward microbatch are booked
//   EndMicrobatch      shares of one microbatch start on their way between the ranks
//   Gradient, Book     (loss) in the backward of each layer
//   AddTo              this rank's sums go into the step's one exchange of statistics
//   EndStep            with the sums of all ranks: report, biases, and shares for the next step. Where the
//                      sums are not finite, biases, shares and history become what they were before
#pragma once

#include "models/balance_loss.h"
#include "models/expert_importance.h"
#include "models/importance_history.h"
#include "models/load_statistics.h"
#include "models/lock/pool_lock.h"
#include "models/router_bias.h"
#include "models/visibility.h"
#include "models/visible_experts.h"

namespace unipool {

// What one step says about the use of experts, the same on every rank but for `seconds`.
struct LoadReport {
  double pool_loss = 0;             // as added to the training loss
  double pool_loss_at_balance = 0;  // its value if shares were even: alpha * sum_i Pbar_i
  // Over balance groups: largest load of an expert / mean load - 1. Load is choices with a positive score.
  double max_violation = 0;
  int64_t dead_experts = 0;     // experts without load
  double zero_score_share = 0;  // share of token-layers whose choices all have score 0
  double tie_share = 0;         // share of choices with score 0
  // ImportanceHistory::EffectiveExperts; 0: not yet.
  double effective_experts = 0;
  // Age of the shares that the step's last microbatch used, in steps (STEP) or microbatches. -1: no pool
  // loss, or no shares yet.
  int64_t shares_age = -1;
  std::optional<LockReport> lock;
  // That this rank spent starting and awaiting the step's statistics (late ranks included).
  double seconds = 0;
};

struct ExpertUse {
  // Collective over the mesh's world. `dtype` is the type of the router's numbers. What routers read lies on
  // the stream's device, which `memory` counts; all else is the host's. The clock books what statistics cost.
  ExpertUse(const Config& config, const ModelSpec& spec, const BalanceOptions& options, const Mesh& mesh,
            WaitClock& clock, DType dtype, Stream& stream, MemoryMeter& memory);

  // Between steps, on all ranks alike: `visibility` was changed.
  void VisibilityChanged();

  // What layers may choose after `step` updates: before a validation, and as part of BeginStep.
  void SetStep(int64_t step);
  void BeginStep(int64_t step);
  void EndMicrobatch(int64_t microbatch);
  void AddTo(StepSums& sums) const;
  // `sums` are the sums over all ranks. The report lacks its seconds. Collective over the world with
  // MICROBATCH and RANK.
  LoadReport EndStep(const StepSums& sums);

  const ModelSpec& spec;
  const BalanceOptions options;
  Visibility visibility;
  VisibleExperts visible;
  LoadStatistics statistics;
  PoolShares shares;
  BalanceLoss loss;
  RouterBias bias;
  std::optional<PoolLock> lock;
  ExpertImportance importance;
  ImportanceHistory history;
};

}  // namespace unipool
