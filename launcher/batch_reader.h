// Deals samples of a dataset to this rank, as the engine counts them: which sample a sequence is depends on
// its number in the run alone, never on the layout.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/token_dataset.h"
#include "models/training_engine.h"

namespace unipool {

class BatchReader {
 public:
  BatchReader(const TokenDataset& dataset, const TrainingEngine& engine, int64_t micro_batch,
              int64_t seq_length)
      : dataset_(dataset), engine_(engine), micro_batch_(micro_batch), seq_length_(seq_length) {}

  // This rank's microbatches [rounds, b, s + 1] of num_sequences samples from first_sample on. Sequences past
  // num_sequences are padding: they repeat the first sample. Valid until the next call.
  Tensor Read(int64_t first_sample, int64_t num_sequences);

 private:
  const TokenDataset& dataset_;
  const TrainingEngine& engine_;
  int64_t micro_batch_, seq_length_;
  std::vector<int32_t> tokens_;
};

// Mean loss of a token over num_sequences samples of the dataset, in passes of bounded memory. Collective;
// the same on every rank and layout up to rounding.
double MeanLoss(TrainingEngine& engine, const TokenDataset& dataset, int64_t num_sequences,
                int64_t micro_batch, int64_t seq_length);

}  // namespace unipool
