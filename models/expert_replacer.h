// Decides where experts live and moves them there: at the start, and every few hundred steps by the rows that
// were counted since the last time (parallel/SCHEDULE.md, "Placement"). Losses do not depend on it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "configs/config.pb.h"
#include "models/expert_pool.h"
#include "models/lock/owner_placement.h"
#include "models/lock/pool_lock.h"
#include "models/optimizer.h"
#include "parallel/mesh.h"
#include "parallel/slot_room.h"

namespace unipool {

// What a placement of experts did. Imbalances are those of parallel/slot_loads.h, on the counts that the
// placement was made from.
struct PlacementReport {
  int num_moved = 0;    // experts
  int num_shadows = 0;  // copies of experts, of all ranks of a copy of the pool
  int64_t bytes = 0;    // that crossed between ranks, of all copies of the pool
  double imbalance_before = 1, imbalance_after = 1;
  // That come to this rank's experts, by the counts. The other numbers are the same on all ranks.
  SlotRoom rows;
};

// The placement of a run's first steps. CONTIGUOUS: consecutive blocks of experts. SLOT_AWARE: level in every
// slot if each layer uses its visible experts evenly. The two differ where layers see different experts.
ExpertPlacement FirstPlacement(const ModelSpec& spec, ParallelConfig::Placement placement,
                               const SlotSchedule& schedule, const MeshShape& shape);

class ExpertReplacer {
 public:
  // All references must outlive it. `placement` is the one value that everyone on this rank refers to, and
  // changes in MoveTo alone. `optimizer` is null where there is none. `copy_share`: as in ShadowCounts.
  ExpertReplacer(const ModelSpec& spec, const ParallelConfig& config, const Mesh& mesh,
                 const SlotSchedule& schedule, double copy_share, ExpertPlacement& placement,
                 ExpertPool& experts, const Optimizer* optimizer, Stream& stream, MemoryMeter& memory);

  // Counts [L * M] of a finished step, over all ranks.
  void AddStep(std::span<const double> counts);
  // After every parallel.replace_every steps: places experts by the counts that were summed since the last
  // time, and forgets those counts. Returns nothing when it is not due. Collective over the pool group; the
  // same on all ranks.
  // With a lock also right at the lock, by the owners.
  std::optional<PlacementReport> ReplaceIfDue(int64_t steps_done, const PoolLock* lock = nullptr);
  // Between steps: moves the experts, with their moments, to where `to` says. `step` names the exchange.
  // A placement without room for shadows gets empty room. Collective over the pool group.
  void MoveTo(const ExpertPlacement& to, int64_t step = -1);
  // Imbalance of the present placement on these counts.
  double SlotImbalanceOf(std::span<const double> counts) const;

  // Owners and counts, for checkpoints. Owners belong to a number of ranks. A run with another number drops
  // them, and its experts stay where they are until they are placed next. Of shadows only the counts are kept
  // that they were chosen by: whoever loads them chooses the same for the same owners. StateLoaded moves the
  // experts, whose weights and moments were loaded before it. Collective over the pool group.
  std::vector<DiskTensor> State() const;
  void StateLoaded();

 private:
  bool is_on() const {
    const bool moves = config_.placement() != ParallelConfig::CONTIGUOUS || placement_.num_shadows() > 0;
    return moves && mesh_.pool().size() > 1;
  }
  // These owners with shadows for these counts, where there is room for shadows.
  SlotRoom RowsToExpect() const;
  ExpertPlacement WithShadows(const ExpertPlacement& owners, std::span<const double> counts) const;
  std::vector<Tensor> Arrays() const;
  void KeepOwners();

  const ModelSpec& spec_;
  const ParallelConfig config_;
  const Mesh& mesh_;
  const SlotSchedule& schedule_;
  const double copy_share_;
  ExpertPlacement& placement_;
  ExpertPool& experts_;
  const Optimizer* optimizer_;
  Stream& stream_;
  MemoryMeter& memory_;
  std::vector<double> counts_;         // [L * M] since the last placement
  double rows_of_step_ = 0;            // all counts of the last step
  std::vector<double> shadow_counts_;  // [L * M] that the shadows were chosen by; empty without room for any
  std::vector<int32_t> owners_;        // [M]
};

}  // namespace unipool
