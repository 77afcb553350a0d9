// What an evaluation of texts asks of the head in place of a loss: for some positions of a pass, how likely
// the token is that follows, and which tokens are likeliest there (LanguageModel::SetScorer). Probabilities
// are over the tokens of the vocabulary alone, without its padded rows, whose logits no exported model has.
#pragma once

#include <span>
#include <vector>

#include "models/host_reader.h"
#include "runtime/buffer.h"

namespace unipool {

struct TokenScore {
  int32_t token = 0;
  double log_prob = 0;  // nats
};

struct PositionScores {
  TokenScore target;
  // The likeliest first, of equals the lower id. Where the target is among them the numbers are equal.
  std::vector<TokenScore> top;
};

class TokenScorer {
 public:
  // `num_top`: tokens of PositionScores::top. `device` is the head's, or null, and `memory` counts its
  // memory. Both outlive the scorer.
  TokenScorer(int64_t num_top, DeviceContext* device, MemoryMeter& memory);

  // What to score in a microbatch, ascending. A row is position p of sequence i as i * s + p, and its target
  // the token behind it.
  struct Wanted {
    std::vector<int32_t> rows, targets;
  };
  // Before a pass, of all its microbatches.
  void Begin(const std::vector<Wanted>& microbatches);

  // For the head, which takes a microbatch's rows in chunks, each once.
  int64_t num_wanted(int microbatch) const { return static_cast<int64_t>(scores_[microbatch].size()); }
  // [n] I32 where the head's kernels read them, until the next Begin.
  Tensor Rows(int microbatch, int64_t first, int64_t count) const { return Ids(0, microbatch, first, count); }
  Tensor Targets(int microbatch, int64_t first, int64_t count) const {
    return Ids(1, microbatch, first, count);
  }
  // Their logits, of which the kernel of the loss has made `losses`, -log P(target).
  void Take(int microbatch, int64_t first, const Tensor& logits /*[n, V]*/, const Tensor& losses /*[n] F64*/);

  // By microbatch, as wanted; only on the last stage they are more than zeros.
  const std::vector<std::vector<PositionScores>>& scores() const { return scores_; }

 private:
  Tensor Ids(int which, int microbatch, int64_t first, int64_t count) const;
  template <class T>
  PositionScores ScoresOf(std::span<const T> logits, int32_t target, double loss);

  const int64_t num_top_;
  DeviceContext* device_;
  MemoryMeter& memory_;
  HostReader reader_;
  std::vector<int32_t> ids_;     // [2, n] rows of all microbatches, then targets
  std::vector<int64_t> begins_;  // [B] of a microbatch in these
  Buffer ids_on_device_;
  std::vector<int32_t> order_;
  std::vector<std::vector<PositionScores>> scores_;
};

}  // namespace unipool
