// How much the loss of a dense model depends on each neuron of its FFNs (MoEBERT, arXiv 2204.07675, section
// 3.2). Neuron j is row j of gate and up and column j of down, and
//
//   I_j = mean over sequences of | <gate_j, dL/dgate_j> + <up_j, dL/dup_j> + <down_j, dL/ddown_j> |
//
// L is the mean loss of the sequence's tokens. The absolute value is taken sequence by sequence, as the
// authors' code does: a neuron that helps here and harms there is important.
#pragma once

#include <string>
#include <vector>

#include "launcher/experts/saved_model.h"
#include "runtime/world.h"

namespace unipool {

struct ImportanceData {
  std::string source;      // a text file or a Megatron prefix
  int64_t sequences = 0;   // the first ones of it; 0: all
  int64_t seq_length = 0;  // 0: the model's
};

// [L][F]. Throws UserError where the data cannot be read. REQUIRES: the model is DENSE; a world of one rank.
std::vector<std::vector<double>> NeuronImportance(const SavedModel& model, const ImportanceData& data,
                                                  World& world);

}  // namespace unipool
