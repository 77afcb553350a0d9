// Places experts so that the ranks are level in every slot (vector packing, DESIGN section 8). A pure
// function: every rank computes the same.
#pragma once

#include "parallel/slot_loads.h"

namespace unipool {

struct PlacementSearch {
  int max_rounds = 20;        // of local improvement: in each, every pair of experts is tried once
  double least_gain = 0.005;  // below this share of the cost the experts stay where they are
};

// A placement in which every rank has as many experts as in `current`, so that no array changes its size, and
// whose LockstepCost is at most that of `current`. From two starts, `current` and experts dealt in descending
// order of load to the rank that this suits best, experts of two ranks are swapped as long as that lowers the
// cost; the better result wins. Ranks are interchangeable in the cost, so blocks of experts are then given to
// the ranks that hold most of them already: few experts move. `current` itself when least_gain is not
// reached. Time: about max_rounds * M^2 / 2 * slots operations.
ExpertPlacement PlaceBySlots(const SlotLoads& loads, const ExpertPlacement& current,
                             const PlacementSearch& search = {});

// Number of experts whose owner differs.
int NumMoved(const ExpertPlacement& from, const ExpertPlacement& to);

}  // namespace unipool
