// A model with more or fewer layers on the same pool (models/EXPERTS.md, "Depth").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/experts/saved_model.h"

namespace unipool {

// Why the depth of a model with these settings cannot change, a sentence; "" when it can.
std::string WhyNotDepth(const Config& config, bool grows);

// The layers (of the model as it is, ascending, some more than once) behind which `num_new` new ones go:
// spread evenly over the later half; over all layers where there are more new ones than that half has.
std::vector<int64_t> PlacesOfNewLayers(int64_t layers, int64_t num_new);

// Puts a new layer behind each of `after`. It is a copy of the layer before it that changes nothing: the
// output projection of its attention is 0, and its router's sigma Router::kLeastScale. Its moments are 0.
void InsertLayers(SavedModel& model, const std::vector<int64_t>& after);
// Takes these layers (ascending, not all) out.
void DropLayers(SavedModel& model, const std::vector<int64_t>& layers);

}  // namespace unipool
