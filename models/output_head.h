// What the last stage does behind its layers: final norm, head, losses of the tokens and their gradient.
#pragma once

#include "models/dense_parameters.h"
#include "models/model_spec.h"
#include "models/token_scorer.h"
#include "runtime/stream.h"

namespace unipool {

struct OutputHeadOptions {
  DType dtype = DType::kF32;
  int64_t micro_batch = 1;  // sequences
  bool is_last = true;      // false: the stage has no head, and its loss sum is 0
};

class OutputHead {
 public:
  // Declares its parameters on the last stage; usable after parameters.Allocate.
  OutputHead(const ModelSpec& spec, const OutputHeadOptions& options, DenseParameters& parameters,
             Stream& stream, MemoryMeter& memory);

  // Before the first microbatch of a run. The gradient is that of loss_scale * sum of token losses; with 0
  // only losses are computed, and microbatches may have fewer tokens than T. Only the first num_counted
  // tokens of the run enter loss_sum.
  void BeginRun(double loss_scale, int64_t tokens_per_microbatch, int64_t num_counted);
  // Who is given scores in place of the loss from now on, in runs with loss_scale 0: the loss sum is then 0,
  // and only the logits are computed that it wants. Null: nobody.
  void SetScorer(TokenScorer* scorer) { scorer_ = scorer; }

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

  // [1] F64, on the stream's device: token losses since BeginRun.
  Tensor loss_sum() const { return loss_sum_.View(DType::kF64, {1}); }

  // Generation: logits [1, V] of x [1, D], with memory for the normalised x and its 1/rms.
  void Logits(const Tensor& x, const Tensor& normed, const Tensor& inv_rms, const Tensor& logits);

  // Tokens of one chunk, of T: the same in every layout, since it decides the order of sums.
  static int64_t ChunkTokens(int64_t padded_vocab, int64_t tokens, Device device);
  // Logits that the head holds at once, more of them on a GPU.
  static int64_t LogitsAtOnce(const ModelSpec& spec, int64_t tokens, Device device);

 private:
  int64_t most_tokens() const { return options_.micro_batch * spec_.seq_length; }  // T
  bool is_training() const { return loss_scale_ != 0; }
  Tensor Hidden(Buffer& buffer) const { return buffer.UseView(options_.dtype, {tokens_, spec_.hidden}); }
  // Logits, losses and gradients of some tokens.
  void RunChunk(const Tensor& targets, int64_t first, int64_t num_tokens);
  void Score(int microbatch);
  // Of a microbatch of tokens_; the logits have room for that of a full one.
  int64_t Chunk() const;
  void AddLosses(int microbatch);

  const ModelSpec& spec_;
  OutputHeadOptions options_;
  DenseParameters& parameters_;
  Stream& stream_;
  DenseParameters::Id norm_ = -1, head_ = -1;
  Buffer losses_, loss_sum_, normed_, dnormed_, inv_rms_, logits_;
  double loss_scale_ = 0;
  int64_t tokens_, num_counted_ = 0;  // of a microbatch; of the run
  TokenScorer* scorer_ = nullptr;
};

}  // namespace unipool
