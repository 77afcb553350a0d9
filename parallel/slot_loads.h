// What each expert's rows weigh in every slot of a step, and how level a placement makes the ranks there.
// Pure functions of numbers. parallel/SCHEDULE.md, "Placement". Letters: README.md.
//
// In a slot all stages work at once, and the next slot waits for the slowest rank. So the load of a rank in
// each slot must be level; a level load over the whole step does not help. A rank's load in a slot is the
// forward rows of the layers that the stages run in it, and twice the rows whose backward runs in it.
//   Example: 2 ranks, 1 stage, 2 layers. Layer 0 uses the experts of rank 0 only, and layer 1 those of rank
//   1. Over the step both ranks have the same load, but in each slot one of them waits for the other.
//
// Time steps in which the same lanes of the same stages are busy are alike. So a slot here is an index in the
// time step and a set of alike time steps, and rows are counted over all of them.
#pragma once

#include <span>
#include <vector>

#include "parallel/expert_placement.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"

namespace unipool {

struct SlotLoads {
  int num_experts = 0, num_slots = 0;
  std::vector<double> loads;  // [M, slots] in forward rows
  std::span<const double> of(int expert) const {
    return {loads.data() + static_cast<size_t>(expert) * num_slots, static_cast<size_t>(num_slots)};
  }
};

// The backward of a row takes as long as this many forwards.
inline constexpr double kBackwardWeight = 2;

// counts [L, M]: rows that the model's layers sent to each expert in one step or in several, over all
// microbatches. Each microbatch is taken to have an equal share of them. L is the sum of the schedule's
// layers. With PoolSpan::kStage a slot belongs to one stage, whose ranks alone wait for each other.
SlotLoads SlotLoadsOf(std::span<const double> counts, int num_experts, const SlotSchedule& schedule,
                      PoolSpan span);

// Load of each rank in each slot, [W, slots].
std::vector<double> RankLoads(const SlotLoads& loads, const ExpertPlacement& placement);

// What the lockstep pays: the sum over slots of the largest load of a rank.
double LockstepCost(const SlotLoads& loads, const ExpertPlacement& placement);

// Per slot: the largest load of a rank / the mean of the ranks; 1 where nobody has any load.
std::vector<double> SlotImbalances(const SlotLoads& loads, const ExpertPlacement& placement);

// Over all slots: sum of the largest loads / sum of the means; 1 without load. 1 is level. The inverse is the
// efficiency of the experts' time.
double SlotImbalance(const SlotLoads& loads, const ExpertPlacement& placement);

// No placement on so many ranks is more level than this. An expert cannot be split, so in no slot is the
// largest load of a rank below the mean or below the load of one expert.
double LeastSlotImbalance(const SlotLoads& loads, int num_ranks);

}  // namespace unipool
