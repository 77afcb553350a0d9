// How many rows come to a rank's experts in a slot, by counts of earlier steps. A pure function of numbers.
// Memory for rows is taken by this before a step, when experts have moved (TokenDispatcher::MakeRoom).
#pragma once

#include "parallel/shadow_placement.h"

namespace unipool {

struct SlotRoom {
  double forward = 0, backward = 0;  // of the slot in which the lane brings most
};

// Of a rank of the pool group of `stage`, which counts where pools are of stages. `counts`: of one step, all
// replicas together; its copy_share is not used. Every microbatch is taken to have an equal share of them.
SlotRoom RoomInSlots(const ShadowCounts& counts, const ExpertPlacement& placement, const MeshShape& shape,
                     int stage, int pool_rank);

}  // namespace unipool
