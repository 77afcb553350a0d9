// What each expert's rows weigh in every slot of a step, and how level a placement makes the ranks there
// (DESIGN section 8). Pure functions of numbers.
//
// In a slot all stages work at once, and the next slot waits for the slowest rank. So what must be level is
// not the load of a rank over the step but its load in each slot: the forward rows of the layers that the
// stages run in it plus, twice as heavy, the rows whose backward runs in it. Time steps in which the same
// lanes of the same stages are busy are alike, so a slot here is (such a set of time steps, index in the time
// step), with rows counted over all of its time steps.
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
// microbatches; a microbatch is taken to have an equal share of them. L is the sum of the schedule's layers.
// kStage: a slot belongs to one stage, whose ranks alone wait for each other.
SlotLoads SlotLoadsOf(std::span<const double> counts, int num_experts, const SlotSchedule& schedule,
                      PoolSpan span);

// Load of each rank in each slot, [W, slots].
std::vector<double> RankLoads(const SlotLoads& loads, const ExpertPlacement& placement);

// What the lockstep pays: the sum over slots of the largest load of a rank.
double LockstepCost(const SlotLoads& loads, const ExpertPlacement& placement);

// Per slot the largest load of a rank / the mean of the ranks; 1 where nobody has any.
std::vector<double> SlotImbalances(const SlotLoads& loads, const ExpertPlacement& placement);

// Of all slots: sum of the largest loads / sum of the means; 1 is level, and its inverse is the efficiency of
// the experts' time. 1 without load.
double SlotImbalance(const SlotLoads& loads, const ExpertPlacement& placement);

// No placement on so many ranks is more level than this: an expert cannot be split, so in no slot is the
// largest load below the mean or below that of one expert.
double LeastSlotImbalance(const SlotLoads& loads, int num_ranks);

}  // namespace unipool
