// The token ids of a run's microbatches, where the kernels read them: what goes into the embedding, and what
// the head is to predict. On the first stage also the embedding table itself.
#pragma once

#include "models/dense_parameters.h"
#include "models/model_spec.h"
#include "runtime/device_context.h"

namespace unipool {

class TokenInputs {
 public:
  // Declares the embedding table if the stage is the first. `tokens`: T of a microbatch. `device` is the
  // stream's, null on the CPU; `memory` counts its memory.
  TokenInputs(const ModelSpec& spec, int64_t tokens, bool is_first, DenseParameters& parameters,
              DeviceContext* device, Stream& stream, MemoryMeter& memory);
  ~TokenInputs();
  TokenInputs(const TokenInputs&) = delete;

  // Samples of the microbatches to run, [B, b, s + 1] I32: inputs are tokens 0..s-1, targets 1..s. Sequences
  // may be shorter than the model's, and as many as b s <= T allows. They are copied before it returns.
  void Set(const Tensor& samples);
  Tensor inputs(int microbatch) const { return Ids(microbatch); }                       // [T] I32
  Tensor targets(int microbatch) const { return Ids(num_microbatches_ + microbatch); }  // [T] I32

  // x [*, D] becomes the embedding of the ids. First stage only, as the next.
  void Embed(const Tensor& ids /*[*] I32*/, const Tensor& x);
  // Adds the gradient of a microbatch's embedding to the table's gradient.
  void EmbedBackward(int microbatch, const Tensor& dx /*[T, D]*/);

 private:
  void Reserve(int64_t num_microbatches);
  Tensor Ids(int64_t row) const;

  const int64_t most_positions_, most_tokens_;
  int64_t tokens_per_microbatch_ = 0;  // of the samples that were set
  DenseParameters& parameters_;
  DeviceContext* device_;
  Stream& stream_;
  MemoryMeter& memory_;
  DenseParameters::Id table_ = -1;
  Buffer ids_;  // [2, B, T] I32: inputs of all microbatches, then targets
  int64_t num_microbatches_ = 0, most_microbatches_ = 0;
  void* pinned_ = nullptr;      // on a device, where the ids are copied from
  int32_t* on_host_ = nullptr;  // where Set writes: pinned_, or on the CPU the ids themselves
  DeviceContext::Event sent_ = -1;
};

}  // namespace unipool
