// A step of the settings as the planner walks it (parallel/step_walk.h): sizes of what travels and of what is
// summed, and what is counted of a token, a row and a parameter.
#pragma once

#include "configs/config.pb.h"
#include "parallel/step_walk.h"

namespace unipool {

using WorkRates = std::array<WorkRate, kNumWorkKinds>;  // by WorkKind

// Times of the settings' work at these rates. Operations are those of EstimateWork (stage_layers.h): products
// with weights and the quadratic part of attention; norms and softmax go with them. A row that is gathered or
// summed is read and written once. The optimizer reads and writes each parameter with both moments, and reads
// its gradient twice.
WorkTimes WorkTimesOf(const Config& config, const WorkRates& rates);

// REQUIRES: the configuration is valid for shape.world() ranks.
StepPlan PlanStep(const Config& config, const MeshShape& shape, const ClusterDescription& cluster,
                  const WorkRates& rates);

}  // namespace unipool
