// Rows of tokens of any lengths through the model, and how likely their last tokens are. Neither the layout
// nor which rows travel together changes a score by more than rounding. Attention is causal, so no token of a
// row sees what is padded behind it.
#pragma once

#include <span>
#include <vector>

#include "models/training_engine.h"

namespace unipool {

struct TokenRow {
  std::vector<int32_t> tokens;  // context, then targets; seq_length + 1 at most
  int64_t first_target = 0;     // 1 or more, below tokens.size(): tokens from here on are scored
  int64_t num_targets() const { return static_cast<int64_t>(tokens.size()) - first_target; }
};

class RowScorer {
 public:
  // `num_top`: the likeliest tokens of each position that are told. Engine and world must outlive it.
  RowScorer(TrainingEngine& engine, Communicator& world, int64_t num_top);

  // Scores of each row's targets, the same on all ranks. Collective; all ranks give the same rows.
  std::vector<std::vector<PositionScores>> Score(std::span<const TokenRow> rows);

  // The next pass over the longest rows that are left: so many sequences of `length` in each of `rounds`
  // microbatches of every data rank.
  struct Pass {
    int64_t length = 0, per_microbatch = 0, rounds = 0;
  };
  // `lengths`: inputs of the rows that are left, descending. A microbatch has at most `tokens` tokens. A pass
  // ends where rows become much shorter than its first, but not before there is work for all stages.
  static Pass NextPass(std::span<const int64_t> lengths, int64_t tokens, int64_t data_ranks, int64_t stages);

 private:
  void Run(std::span<const TokenRow> rows, std::span<const int64_t> picked, const Pass& pass,
           std::vector<std::vector<PositionScores>>& scores);

  TrainingEngine& engine_;
  Communicator& world_;
  const int64_t num_top_;
  TokenScorer scorer_;
};

}  // namespace unipool
