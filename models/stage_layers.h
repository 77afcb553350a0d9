// Which layers a pipeline stage holds, from the settings: given, or chosen by what layers and head cost.
#pragma once

#include <vector>

#include "configs/config.pb.h"
#include "models/model_spec.h"
#include "parallel/stage_balance.h"
#include "runtime/range.h"

namespace unipool {

// Multiplications and additions (FLOPs) of one microbatch's forward: of products with weights, and of causal
// attention's quadratic part. What moves memory alone (norms, permutation) is left out.
StageWork EstimateWork(const Config& config);

// parallel.layers_per_stage, or where it is empty the choice of stage_balance.h. S entries. REQUIRES: the
// configuration is valid for shape.world() ranks.
std::vector<int> LayersPerStage(const Config& config, const MeshShape& shape);
Range LayersOfStage(const std::vector<int>& layers_per_stage, int stage);

}  // namespace unipool
