// Places experts so that the ranks are level in every slot (vector packing). A pure function: every rank
// computes the same. parallel/SCHEDULE.md, "Placement".
#pragma once

#include "parallel/slot_loads.h"

namespace unipool {

struct PlacementSearch {
  int max_rounds = 20;        // of local improvement: in each, every pair of experts is tried once
  double least_gain = 0.005;  // below this share of the cost the experts stay where they are
};

// A placement in which every rank has as many experts as in `current`, so that no array changes its size. Its
// LockstepCost is at most the cost of `current`. It is `current` itself when least_gain is not reached.
//
// The search has two starts: `current`, and experts dealt in descending order of load to the rank that this
// suits best. From each start, experts of two ranks are swapped as long as that lowers the cost. The better
// result wins. Ranks are interchangeable in the cost, so each block of experts is then given to the rank that
// holds most of it already, and few experts move. Time: about max_rounds * M^2 / 2 * slots operations.
ExpertPlacement PlaceBySlots(const SlotLoads& loads, const ExpertPlacement& current,
                             const PlacementSearch& search = {});

// Number of experts whose owner differs.
int NumMoved(const ExpertPlacement& from, const ExpertPlacement& to);

}  // namespace unipool
