// Which layers each pipeline stage holds: as the settings give them, or chosen by what layers and head cost.
#pragma once

#include <vector>

#include "configs/config.pb.h"
#include "models/model_spec.h"
#include "parallel/stage_balance.h"
#include "runtime/range.h"

namespace unipool {

// Multiplications and additions (FLOPs) of one microbatch's forward: products with weights, and the quadratic
// part of causal attention. Work that only moves memory (norms, permutation) is left out.
StageWork EstimateWork(const Config& config);

// Layers of each of the S stages: parallel.layers_per_stage, or where that is empty the choice of
// parallel/stage_balance.h. REQUIRES: the configuration is valid for shape.world() ranks.
std::vector<int> LayersPerStage(const Config& config, const MeshShape& shape);

// Who runs the head: parallel.head, or with AUTO_HEAD the choice of parallel/stage_balance.h; with device:
// CUDA, where no spread head was measured, the last stage. Of a training step; as above.
HeadPlace HeadPlaceOf(const Config& config, const MeshShape& shape);

// The slot schedule of a training step.
SlotSchedule TrainingSchedule(const Config& config, const MeshShape& shape);

// The same settings with what is chosen in its place: layers per stage, and who runs the head. It spares
// choosing again for every rank.
Config WithChoices(const Config& config, const MeshShape& shape);
Range LayersOfStage(const std::vector<int>& layers_per_stage, int stage);

}  // namespace unipool
