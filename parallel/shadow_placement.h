// Shadows: copies of experts on other ranks, so that an expert with many rows is not the work of one rank.
// Pure functions of numbers, the same on every rank.
//
// An expert lives on its owner, and each rank has room for k shadows besides. Weights come to a shadow once a
// step, and all layers and microbatches of the step use them. Which rows go to which copy is fixed between
// steps: of a layer's rows of an expert each copy gets a share (expert_placement.h).
#pragma once

#include <span>
#include <vector>

#include "parallel/expert_placement.h"
#include "parallel/mesh.h"
#include "parallel/slot_loads.h"

namespace unipool {

// What the choice is made from.
struct ShadowCounts {
  std::span<const double> counts;  // [L, M] as of SlotLoadsOf
  const SlotSchedule& schedule;
  PoolSpan span = PoolSpan::kReplica;
  // What a copy costs that gets rows of a layer: so many rows, as a share of all rows of the layer
  // (CopyShare).
  double copy_share = 0;
};

// A copy that gets rows of a layer makes one more batch in each slot of the layer: its weights are read, and
// its weight gradients are added up, for however few rows. That takes about as long as so many rows.
// Measured: kernels of D = 512, F = 1024, FP32 on one core; 8, 32 and 128 rows.
// With CUDA by arithmetic: 3 DF weights read twice in BF16, their gradients read and written in FP32, at 4.8
// TB/s, against 18 DF operations a row at 600 TFLOP/s.
inline constexpr double kRowsOfACopy = 8, kRowsOfACopyOnGpu = 250;

// `rows_of_slot`: rows that all ranks of the pool together have for a layer in one slot.
inline double CopyShare(double rows_of_slot, bool on_gpu) {
  return (on_gpu ? kRowsOfACopyOnGpu : kRowsOfACopy) / rows_of_slot;
}

// Gives `owners` k shadows a rank, at most, and shares that make the ranks level in every slot. No more are
// made once the slots are level to `tolerance` (SlotImbalance - 1), so with level counts there are none.
//
// Method. With loads x_r of rank r by layer, the sum over slots of squared loads, each in units of the slot's
// mean, is a quadratic form of x_r with one [L, L] matrix for all ranks. One expert's shares in one layer
// have their best values in closed form. Shadows are added one by one, each where it lowers the form most.
// After each the shares of all copied experts are improved in turn. Of all these placements the one is taken
// whose largest loads, with the cost of the copies, have the least sum. Shares are rounded to units.
// Time: about W k (8 M + W k) L^2 operations; 8: a shadow goes to one of the least loaded ranks.
ExpertPlacement PlaceShadows(const ShadowCounts& counts, const ExpertPlacement& owners, int shadows_per_rank,
                             double tolerance = 0.01);

// Shadows that are made, of all ranks.
int NumShadows(const ExpertPlacement& placement);

// Load of each rank in each slot with the placement's shares: [W, slots]. REQUIRES: it has some.
std::vector<double> RankLoads(const ShadowCounts& counts, const ExpertPlacement& placement);
// As SlotImbalance of slot_loads.h, which it is without shares.
double SlotImbalance(const ShadowCounts& counts, const ExpertPlacement& placement);

// Units of a source rank's rows that go to each place, [P]: its part of the layer's shares. `sources`: the
// ranks whose rows the layer has, ascending, all with about as many rows. Each sends to the copy on its own
// rank first, as much as the copy's share has room for; the rest is dealt in proportion. Over an expert's
// places it sums to kShareUnits, and the mean over the sources differs from the shares by rounding only.
std::vector<int32_t> SharesOfSource(const ExpertPlacement& placement, std::span<const int32_t> shares,
                                    std::span<const int> sources, int source);

}  // namespace unipool
