// The shares fbar that the pool loss multiplies scores with: which share of a balance group's choices went to
// each expert. moe.balance_scope says what they are counted over:
//   STEP        the whole previous step: all ranks, stages, layers and microbatches
//   MICROBATCH  the previous microbatch over all ranks, stages and layers of the group
//   RANK        the previous microbatch of this data rank alone, over its stages
// Shares are known by the number of the step (STEP) or microbatch they were counted in, never by counting
// calls, so their age is known. Microbatch m of step t has number t * B + m.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "models/balance_options.h"
#include "models/parameter.h"
#include "models/wait_clock.h"
#include "parallel/mesh.h"
#include "parallel/pool_balance.h"

namespace unipool {

class PoolShares {
 public:
  // Collective over the mesh's world. The clock books what the reductions cost; mesh and clock must outlive
  // it.
  PoolShares(const ModelSpec& spec, const BalanceOptions& options, const Mesh& mesh, WaitClock& clock);

  void BeginStep(int64_t step);
  // The counts [groups * M] of this rank's microbatch are complete. MICROBATCH and RANK start their reduction
  // here, without waiting for it.
  void EndMicrobatch(int64_t microbatch, std::span<const double> counts);
  // Before the backward of a microbatch: brings the shares of the microbatch before it into force. The first
  // microbatch of a step uses the shares that the step began with. Nothing with STEP.
  void Refresh(int64_t microbatch);
  // The counts of the finished step, over all ranks: what the next step begins with.
  void EndStep(std::span<const double> group_counts);
  // Instead of EndStep: the next step begins with the shares that this one began with.
  void CancelStep();

  bool exist() const { return in_force_.number >= 0; }  // false until something was counted
  std::span<const double> of(int group) const {         // [M]
    return std::span(in_force_.of_experts).subspan(group * spec_.experts, spec_.experts);
  }
  // Age of the shares in force when the running step ends, in steps (STEP) or microbatches. REQUIRES:
  // exist().
  //   Example, RANK, B = 3: the last backward of a step is of its microbatch 2. It used the shares of
  //   microbatch 1, so the age is 1.
  int64_t age() const { return LastNumberOf(step_) - in_force_.number; }

  // Shares between steps, for checkpoints of POOL_LOSS, with the number of the step that they close: it holds
  // however many microbatches a step has. CollectState is collective over the world and comes before reading
  // the tensors; StateLoaded follows their loading. RANK's shares belong to a number of data ranks and are
  // dropped on another.
  void CollectState();
  std::vector<DiskTensor> State();
  void StateLoaded();

 private:
  int64_t size() const { return static_cast<int64_t>(in_force_.of_experts.size()); }
  int64_t state_rows() const { return options_.scope == BalanceScope::RANK ? options_.data_ranks : 1; }
  double* own_state() {  // [groups * M]
    return state_shares_.data() + (options_.scope == BalanceScope::RANK ? mesh_.data_rank() : 0) * size();
  }
  // The step's number, or its last microbatch's; -1 for step -1.
  int64_t LastNumberOf(int64_t step) const {
    return reduction_ ? (step + 1) * options_.microbatches_per_rank - 1 : step;
  }
  // The step that the shares in force close, between steps; -1: there are no shares.
  int64_t StepOfShares() const;
  void SetFromCounts(std::span<const double> counts);

  const ModelSpec& spec_;
  BalanceOptions options_;
  const Mesh& mesh_;
  WaitClock& clock_;
  std::unique_ptr<PoolBalance> reduction_;  // MICROBATCH and RANK
  struct Shares {
    std::vector<double> of_experts;  // [groups * M]
    int64_t number = -1;             // step or microbatch they were counted in; -1: there are none
  };
  Shares in_force_, at_begin_;  // the latter: when the running step began
  int64_t step_ = 0;
  std::vector<double> state_shares_;  // [1 or data ranks, groups * M] of checkpoints
  double state_step_ = -1;
};

}  // namespace unipool
