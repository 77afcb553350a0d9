// Where experts live once each has one layer. Two ways are known (models/lock/LOCK.md): level in
// every slot over all ranks, as parallel/slot_placement.h does it from the counts here, or with the stage of
// the layer. Pure functions: every rank computes the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/expert_placement.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"

namespace unipool {

// Counts [L * M] of layers that use their own experts alike. owners [M]: layer of each expert.
std::vector<double> EvenCountsOfOwners(std::span<const int32_t> owners, int64_t layers);

// Each expert on a rank of the stage of its layer, a layer's experts dealt evenly to them. Every rank keeps
// its number of experts; where stages have unequal layers the experts of some layers find no room and go to
// ranks that have some. With PoolSpan::kStage each stage has all experts, and `current` stays.
ExpertPlacement PlaceAtOwnerStage(std::span<const int32_t> owners, const SlotSchedule& schedule,
                                  const MeshShape& shape, const ExpertPlacement& current);

}  // namespace unipool
