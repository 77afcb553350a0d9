// Deals samples of a dataset to this rank. The number of a sequence in the run alone decides which sample it
// is, never the layout. Example: of a global batch of 8 sequences in microbatches of 2, data rank 0 of 2
// reads samples 0, 1, 4, 5 and data rank 1 samples 2, 3, 6, 7 (TrainingEngine::SequenceIndex).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "launcher/data/token_dataset.h"
#include "launcher/reports/metric_list.h"
#include "launcher/run_control/run_control.h"
#include "models/settings.h"
#include "models/training_engine.h"

namespace unipool {

class BatchReader {
 public:
  // Reading is file work, told to the ranks of `world`.
  BatchReader(const TokenDataset& dataset, const TrainingEngine& engine, Communicator& world,
              int64_t micro_batch, int64_t seq_length)
      : dataset_(dataset),
        engine_(engine),
        world_(world),
        micro_batch_(micro_batch),
        seq_length_(seq_length) {}

  // This rank's microbatches of num_sequences samples, beginning with first_sample: [rounds, b, s + 1].
  // Sequences past num_sequences are padding and repeat the first sample. The tensor is valid until the next
  // call.
  Tensor Read(int64_t first_sample, int64_t num_sequences);
  // The same of one source of the dataset, whose own samples are counted.
  Tensor ReadOf(int source, int64_t first_sample, int64_t num_sequences);

  // The first round of the last Read, in which no sequence is padding: [1, b, s + 1].
  Tensor FirstRound();

  // Sequences of a pass of an evaluation, over all ranks.
  int64_t pass() const { return kPassMicrobatches * micro_batch_ * engine_.data_ranks(); }
  int64_t seq_length() const { return seq_length_; }
  const TokenDataset& dataset() const { return dataset_; }

 private:
  template <class ReadSample>
  Tensor Deal(int64_t num_sequences, const ReadSample& read_sample);

  const TokenDataset& dataset_;
  const TrainingEngine& engine_;
  Communicator& world_;
  int64_t micro_batch_, seq_length_;
  std::vector<int32_t> tokens_;
};

struct MeanLosses {
  double loss = 0;                     // over all sources
  std::vector<NamedNumber> by_source;  // empty where there is only one
};

// Mean loss of a token over num_sequences samples of the reader's dataset (TokenDataset::Portions), source by
// source, in passes of bounded memory. Collective. Every rank gets the same numbers; another layout gives
// them up to rounding. With a control requests travel with the sums of each pass: all of them are added to
// `heard`, and a stop ends the evaluation, which then has no loss, on all ranks alike.
std::optional<MeanLosses> MeanLoss(TrainingEngine& engine, BatchReader& reader, int64_t num_sequences,
                                   RunControl* control = nullptr, RunRequests* heard = nullptr);

}  // namespace unipool
