#include "models/token_inputs.h"

#include <algorithm>

#include "kernels/embedding.h"

namespace unipool {

TokenInputs::TokenInputs(const ModelSpec& spec, int64_t tokens, bool is_first, DenseParameters& parameters,
                         DeviceContext* device, Stream& stream, MemoryMeter& memory)
    : most_positions_(spec.seq_length),
      most_tokens_(tokens),
      parameters_(parameters),
      device_(device),
      stream_(stream),
      memory_(memory) {
  if (!is_first) return;
  table_ = parameters.Declare("model.embed_tokens.weight", {spec.padded_vocab, spec.hidden},
                              {.std = spec.init_std}, WeightDecay::kYes);
}

TokenInputs::~TokenInputs() {
  if (pinned_) device_->FreePinned(pinned_);
}

void TokenInputs::Set(const Tensor& samples) {
  const int64_t s = samples.dim(2) - 1;
  tokens_per_microbatch_ = samples.dim(1) * s;
  CHECK_LE(tokens_per_microbatch_, most_tokens_);
  CHECK_LE(s, most_positions_);
  num_microbatches_ = samples.dim(0);
  Reserve(num_microbatches_);
  if (device_) device_->WaitOnHost(sent_, {.operation = "copy of the samples"});
  const int64_t sequences = samples.dim(0) * samples.dim(1);
  const int32_t* from = samples.as<int32_t>();
  for (int64_t i = 0; i < sequences; ++i) {
    std::copy_n(from + i * (s + 1), s, on_host_ + i * s);
    std::copy_n(from + i * (s + 1) + 1, s, on_host_ + (sequences + i) * s);
  }
  if (!device_) return;
  device_->Copy(DeviceQueue::kCompute, ids_.data(), on_host_, 2 * sequences * s * 4);
  device_->Record(sent_, DeviceQueue::kCompute);
}

void TokenInputs::Reserve(int64_t num_microbatches) {
  if (num_microbatches <= most_microbatches_) return;
  most_microbatches_ = num_microbatches;
  const int64_t bytes = 2 * num_microbatches * most_tokens_ * 4;
  ids_ = Buffer();
  ids_ = Buffer::Allocate(memory_, MemoryKind::kScratch, bytes);
  on_host_ = static_cast<int32_t*>(ids_.data());
  if (!device_) return;
  if (pinned_) device_->FreePinned(pinned_);
  pinned_ = device_->AllocatePinned(bytes);
  on_host_ = static_cast<int32_t*>(pinned_);
  if (sent_ < 0) sent_ = device_->MakeEvent();
}

Tensor TokenInputs::Ids(int64_t row) const {
  return ids_.View(DType::kI32, {2 * num_microbatches_, tokens_per_microbatch_})
      .Rows(row, 1)
      .Reshape({tokens_per_microbatch_});
}

void TokenInputs::Embed(const Tensor& ids, const Tensor& x) {
  EmbeddingForward(stream_, ids, parameters_.compute(table_), x);
}

void TokenInputs::EmbedBackward(int microbatch, const Tensor& dx) {
  EmbeddingBackward(stream_, inputs(microbatch), dx, parameters_.grad(table_));
}

}  // namespace unipool
