// What becomes of a saved model whose pool keeps only some experts (models/EXPERTS.md, "Shrinking"). Which
// ones they are: models/kept_experts.h.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/experts/saved_model.h"

namespace unipool {

// Takes all experts but `kept` out of the model: weights, moments, router rows, state. `norm_ratio` [L]: what
// the norm of a layer's logits becomes when only the kept ones are left, mean of kept / all over tokens
// (NORM only). Router constants are those of the smaller pool, and each sigma becomes
//   sigma * c / c' * norm_ratio,
// so that the scores of the kept experts stay what they were in the mean.
void ShrinkPool(SavedModel& model, const std::vector<int64_t>& kept, const std::vector<double>& norm_ratio);

// Of a checkpoint in whose every layer the other experts have faded (models/fading_experts.h): shrinks its
// pool by what it says itself. Throws UserError.
void ShrinkFaded(SavedModel& model);

}  // namespace unipool
