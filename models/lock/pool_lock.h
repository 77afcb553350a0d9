// UniPool-lock (the authors' later recipe for arXiv 2605.06665; models/lock/LOCK.md): all layers share the
// pool for a short while, then every expert is given to the layer that used it most, the others' scores fade,
// and the rest of the run is a mixture of experts of each layer's own. This is one rank's copy of what that
// needs to know; all ranks decide the same from the same sums.
//
// In the order of a run: SetStep, before each step and validation, sets the factors of Visibility. BeginStep
// sets the coefficient of the entropy loss, EndStep has the sums of all ranks. BeginValidation, AddChoices
// and EndValidation find out which experts a validation chose. At the freeze these decide who owns whom;
// afterwards the guard looks at the loss.
#pragma once

#include <optional>
#include <vector>

#include "models/lock/choice_history.h"
#include "models/lock/entropy_loss.h"
#include "models/lock/lock_plan.h"
#include "models/lock/owner_assignment.h"
#include "models/lock/quality_guard.h"
#include "models/visibility.h"

namespace unipool {

// Of a training step.
struct LockReport {
  LockStage stage = LockStage::kFull;
  double anneal = 0;          // of the step, 0 to 1
  double entropy = 0;         // of the layers' mean scores, mean over layers, nats
  int64_t off_mask_rows = 0;  // choices of experts that the layer does not own; 0 from the lock on
};

// Of a validation.
struct LockObservation {
  std::optional<OwnerAssignment> decided;  // at the freeze
  // From the freeze on: least share of a layer's choices that went to its own experts; the loss above that of
  // the freeze.
  std::optional<double> coverage_min, guard_excess;
  bool is_too_high = false;  // the run is to end
};

class PoolLock {
 public:
  PoolLock(const Config& config, const ModelSpec& spec, const BalanceOptions& options);

  const LockPlan& plan() const { return plan_; }
  bool has_owners() const { return owners_[0] >= 0; }
  const std::vector<int32_t>& owners() const { return owners_; }  // [M] layer of each expert; -1: open
  bool has_observed(int64_t step) const { return observed_step_ >= step; }
  LockStage stage() const { return plan_.StageAt(step_); }
  EntropyLoss& entropy() { return entropy_; }

  // For `step` updates done. True if `visibility` was changed by it.
  bool SetStep(int64_t step, Visibility& visibility);
  // Of a training step. REQUIRES: from the freeze on that a validation has decided.
  void BeginStep(int64_t step);
  void AddTo(StepSums& sums) const { entropy_.AddTo(sums); }
  // Sums over all ranks. CHECKs that a locked layer chose its own experts alone.
  LockReport EndStep(const StepSums& sums);

  // Choices of evaluated microbatches, those that moe.balance_counts counts, from Begin to End. Of each pass
  // the first num_whole microbatches of this rank count: those without padding, which are the same sequences
  // in every layout.
  void BeginValidation();
  void BeginPass(int64_t num_whole) { num_whole_ = num_whole; }
  void AddChoices(int64_t microbatch, int layer, const LayerChoices& choices);
  // `loss` in nats, of `step` updates done. Observing the same step again changes nothing. Throws UserError,
  // the same on all ranks, where nothing was counted. Collective over the world.
  LockObservation EndValidation(int64_t step, double loss, Communicator& world);
  void CancelValidation() { is_counting_ = false; }

  // For checkpoints; StateLoaded after they were written. Throws UserError, the same on all ranks, for what
  // cannot be: owners that are no assignment, or none though `step` is past the freeze.
  std::vector<DiskTensor> State();
  void StateLoaded();
  void CheckAt(int64_t step) const;

 private:
  std::vector<double> SumChoices(Communicator& world);
  OwnerAssignment Decide();
  double LeastCoverage(const std::vector<double>& choices) const;
  void CheckAlike(Communicator& world) const;
  void KeepNumbers();

  const LockConfig config_;
  const BalanceCounts::Value counted_;
  const uint64_t seed_;
  const ModelSpec& spec_;
  LockPlan plan_;
  EntropyLoss entropy_;
  ChoiceHistory history_;
  QualityGuard guard_;
  std::vector<int32_t> owners_;  // [M]
  int64_t step_ = 0, observed_step_ = -1;
  bool is_counting_ = false;
  int64_t num_whole_ = 0;
  std::vector<double> choices_;  // [L * M] of this rank in the running validation, then the layers counted
  std::vector<double> numbers_;  // of State
};

}  // namespace unipool
