// Deals samples of a dataset to this rank. The number of a sequence in the run alone decides which sample it
// is, never the layout. Example: of a global batch of 8 sequences in microbatches of 2, data rank 0 of 2
// reads samples 0, 1, 4, 5 and data rank 1 samples 2, 3, 6, 7 (TrainingEngine::SequenceIndex).
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

  // This rank's microbatches of num_sequences samples, beginning with first_sample: [rounds, b, s + 1].
  // Sequences past num_sequences are padding and repeat the first sample. The tensor is valid until the next
  // call.
  Tensor Read(int64_t first_sample, int64_t num_sequences);

 private:
  const TokenDataset& dataset_;
  const TrainingEngine& engine_;
  int64_t micro_batch_, seq_length_;
  std::vector<int32_t> tokens_;
};

// Mean loss of a token over the first num_sequences samples of the dataset, in passes of bounded memory.
// Collective. Every rank gets the same number; another layout gives it up to rounding.
double MeanLoss(TrainingEngine& engine, const TokenDataset& dataset, int64_t num_sequences,
                int64_t micro_batch, int64_t seq_length);

}  // namespace unipool
