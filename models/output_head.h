// What comes behind the last layer: final norm, head, losses of the tokens and their gradient. The last stage
// does all of it, or it spreads the head over the stages (parallel/HEAD.md): every stage then has the head's
// weight, and computes logits, losses and gradients of its share of the tokens.
#pragma once

#include "models/dense_parameters.h"
#include "models/model_spec.h"
#include "models/token_scorer.h"
#include "runtime/range.h"
#include "runtime/stream.h"

namespace unipool {

struct OutputHeadOptions {
  ComputeTypes types;
  int64_t micro_batch = 1;  // sequences
  bool is_last = true;      // false: no norm; and no head unless it is spread, so that the loss sum is 0
  // A spread head has as many shares as there are stages, and this stage has one. 1: it is not spread.
  int num_shares = 1, share = 0;
  bool is_trainable = true;  // false: no memory for gradients of a spread head's weight
  int64_t head_tokens = 1;   // whose logits may exist at once
  bool is_spread() const { return num_shares > 1; }
};

class OutputHead {
 public:
  // Declares its parameters on the last stage; usable after parameters.Allocate. A spread head has its weight
  // by itself, on every stage: spread_parameters().
  OutputHead(const ModelSpec& spec, const OutputHeadOptions& options, DenseParameters& parameters,
             Stream& stream, MemoryMeter& memory);
  // The weight of a spread head, the same on all stages; empty where the head is not spread.
  DenseParameters& spread_parameters() { return spread_parameters_; }

  // Before the first microbatch of a run. The gradient is that of loss_scale * sum of token losses; with 0
  // only losses are computed, and microbatches may have fewer tokens than T. Only the first num_counted
  // tokens of the run enter loss_sum.
  void BeginRun(double loss_scale, int64_t tokens_per_microbatch, int64_t num_counted);
  // Who is given scores in place of the loss from now on, in runs with loss_scale 0: the loss sum is then 0,
  // and only the logits are computed that it wants. Null: nobody.
  void SetScorer(TokenScorer* scorer) { scorer_ = scorer; }
  bool has_scorer() const { return scorer_ != nullptr; }

  // A microbatch's work can be cut into parts, so that it spreads over slots: all parts in order, none of
  // another microbatch in between. Results do not depend on num_parts.
  struct Part {
    int index = 0, num_parts = 1;
    int microbatch = 0;
    Tensor x;        // [T, D] out of the last layer
    Tensor targets;  // [T] I32
    Tensor dx;       // [T, D] becomes the gradient of x in the last part; empty where loss_scale is 0
  };
  void Run(const Part& part);

  // ---- A spread head. Shares are EvenPartition(T, num_shares, i) of a microbatch's tokens.
  // Rows of the norm's output, [tokens of the share, D]; and their gradients. The last stage has all shares,
  // another stage its own.
  Tensor ShareRows(int share) { return ShareOf(normed_, share); }
  Tensor ShareGradients(int share) { return ShareOf(dnormed_, share); }
  // Last stage: the norm of x [T, D], into the rows of all shares.
  void Normalize(const Tensor& x);
  // Of this stage's rows: logits, losses and, in training, gradients; but of the last chunk not the weight's,
  // which AddRest adds.
  void RunShare(int microbatch, const Tensor& targets /*[T] I32*/);
  void AddRest();
  double Rest() const;  // what AddRest does, of the work of the share in both directions
  // Last stage: the gradients of all shares have come; dx [T, D] becomes that of x.
  void EndNorm(const Tensor& x, const Tensor& dx);

  // [1] F64, on the stream's device: token losses since BeginRun.
  Tensor loss_sum() const { return loss_sum_.View(DType::kF64, {1}); }

  // Generation: logits [1, V] of x [1, D], with memory for the normalised x and its 1/rms.
  void Logits(const Tensor& x, const Tensor& normed, const Tensor& inv_rms, const Tensor& logits);

  // Tokens of so many logits, but at least as many as pay for reading the head's weight; on a GPU whole
  // tiles.
  static int64_t MostTokens(int64_t padded_vocab, int64_t logits, Device device);
  // The same where nothing says how many logits: more of them on a GPU.
  static int64_t MostTokens(int64_t padded_vocab, Device device);
  // Tokens of one chunk, of T, where logits of `most` tokens may exist at once; on a GPU even whole tiles.
  // The same in every layout, since it decides the order of sums.
  static int64_t ChunkTokens(int64_t tokens, int64_t most, Device device);

 private:
  int64_t most_tokens() const { return options_.micro_batch * spec_.seq_length; }  // T
  bool is_training() const { return loss_scale_ != 0; }
  Tensor Hidden(Buffer& buffer) const {
    return buffer.UseView(options_.types.activations, {tokens_, spec_.hidden});
  }
  // Some tokens: rows of the norm's output and their gradients, and where the tokens stand in the microbatch.
  struct Chunk {
    Tensor rows, gradients;
    Range tokens;
  };
  // Logits, losses and gradients of the rows. Leaves the logits' gradient for AddWeightGradient.
  void RunChunk(const Chunk& chunk, const Tensor& targets);
  void AddWeightGradient(const Chunk& chunk);
  Tensor LogitsOf(const Chunk& chunk);
  Range TokensOf(int share) const { return EvenPartition(tokens_, options_.num_shares, share); }
  Tensor ShareOf(Buffer& buffer, int share) const;
  // Of this stage's share: chunks, and one of them.
  int64_t NumShareChunks() const;
  Chunk ShareChunk(int64_t index);
  void Score(int microbatch);
  // Tokens of a chunk of `tokens`; the logits have room for that of `most`.
  int64_t ChunkSize(int64_t tokens, int64_t most) const;
  int64_t ChunkSize() const { return ChunkSize(tokens_, most_tokens()); }
  int64_t ShareChunkSize() const;
  void AddLosses(int microbatch, const Range& tokens);

  const ModelSpec& spec_;
  OutputHeadOptions options_;
  Stream& stream_;
  DenseParameters spread_parameters_;
  struct {
    DenseParameters& parameters;
    DenseParameters::Id id = -1;
    Tensor compute() const { return parameters.compute(id); }
    Tensor product() const { return parameters.product(id); }
    Tensor grad() const { return parameters.grad(id); }
  } norm_, head_;
  Buffer losses_, loss_sum_, normed_, dnormed_, inv_rms_, logits_;
  double loss_scale_ = 0;
  int64_t tokens_, num_counted_ = 0;  // of a microbatch; of the run
  TokenScorer* scorer_ = nullptr;
};

}  // namespace unipool
