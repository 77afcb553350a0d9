// MoEBERT's split of a dense model (arXiv 2204.07675, section 3.2): the neurons of each FFN, ordered by their
// importance, become N experts. The S most important ones are in all of them; the others are dealt like
// cards, so that the experts are about equally important. What an expert has no room for is left out, the
// least important first.
//
// A softmax router with N experts begins with about the score 1 / N for each. So the down projection of an
// expert's own neurons is multiplied by N, and that of shared ones, which a token meets K times, by N / K. At
// K = N with room for all neurons the model computes what it did: routers begin at 0.
#pragma once

#include <vector>

#include "launcher/interop/sharing_change.h"

namespace unipool {

struct FfnSplit {
  int32_t experts = 0;  // N of each layer
  int32_t shared = 0;   // S
  int32_t width = 0;    // of an expert, shared neurons included; 0: F / N
  int32_t top_k = 1;    // K
};

// Neurons of each expert [N][width], shared ones first, each part from the most important one on; of equally
// important ones the first. Throws UserError where the numbers do not fit. `importance` [F].
std::vector<std::vector<int64_t>> DealNeurons(const FfnSplit& split, const std::vector<double>& importance);

// Makes a DENSE model PRIVATE. `importance` [L][F]. Throws UserError as DealNeurons.
SharingChange SplitFfns(const FfnSplit& split, const std::vector<std::vector<double>>& importance,
                        SavedModel& model);

}  // namespace unipool
