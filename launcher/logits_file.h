// The logits of a model for tokens of a dataset, as a file for other programs to compare with.
#pragma once

#include <string>

#include "launcher/data/token_dataset.h"
#include "models/training_engine.h"

namespace unipool {

// Writes a safetensors file of the first `sequences` samples: tokens [n, s] I32 and logits [n, s, vocab] F32,
// where logits [i, t] are those for the token after tokens [i, 0 .. t]. Padded rows of the vocabulary are
// left out. Throws UserError where the file exists, or cannot be written. REQUIRES: one rank.
void WriteLogits(const std::string& path, TrainingEngine& engine, const TokenDataset& dataset,
                 int64_t sequences);

}  // namespace unipool
