#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/host_values.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "models/decode_state.h"
#include "models/language_model.h"

namespace unipool {

Tensor LanguageModel::NextLogits(int32_t token, int64_t position, ExpertHost& experts) {
  const Tensor logits = Decode(token, position, experts);
  DeviceContext* const device = options_.device;
  if (!device) return logits;
  const Tensor exact = decode_->exact_logits;
  Copy(stream_, logits, exact);
  std::vector<char>& host = decode_->host_logits;
  device->Download(host.data(), exact.data, exact.bytes());
  return Tensor(host.data(), exact.dtype, {1, spec_.padded_vocab});
}

Tensor LanguageModel::Decode(int32_t token, int64_t position, ExpertHost& experts) {
  CHECK(options_.is_first && options_.is_last && placement_.num_ranks() == 1)
      << "generation runs on one rank";
  CHECK_LT(position, spec_.seq_length);
  if (!decode_)
    decode_ = std::make_unique<DecodeState>(spec_, placement_, options_.dtype, options_.device, memory_);
  DecodeState& state = *decode_;
  LayerSaved& saved = state.saved;
  AttentionShape shape = spec_.attention(1);
  shape.sequence_length = 1;

  if (position == 0) BeginRun();
  const double id = token;
  SetValues(stream_, {&id, 1}, state.token);
  EmbeddingForward(stream_, state.token, parameters_.value(embedding_), saved.attention.x);
  for (size_t l = 0; l < layers_.size(); ++l) {
    layers_[l]->attention.Decode(shape, rope_, saved.attention, state.caches[l], position, saved.moe.h);
    layers_[l]->moe.ForwardRoute(saved.moe, send_index_.View(DType::kI32, {spec_.experts}));
    saved.SendReport();
    saved.WaitForReport({.operation = "row counts"});
    layers_[l]->moe.Plan(saved.moe);
    const SendPlan& plan = saved.moe.handle.plan;
    state.expert_offsets.assign(1, 0);
    for (int32_t rows : plan.rows_of_expert)
      state.expert_offsets.push_back(state.expert_offsets.back() + rows);
    const OwnerBatch batch{.expert_offsets = state.expert_offsets, .x = state.rows.Rows(0, plan.num_rows)};
    layers_[l]->moe.ForwardPermute(saved.moe, batch.x);
    experts.Forward(batch, Tensor{}, saved.moe.rows_of_y());
    layers_[l]->moe.ForwardUnpermute(saved.moe, saved.attention.x);
  }
  RmsNormForward(stream_, saved.attention.x, parameters_.value(norm_), spec_.norm_eps, state.normed,
                 state.inv_rms);
  Gemm(stream_, Trans::kNo, state.normed, Trans::kYes, parameters_.value(head_), 0, state.logits);
  return state.logits;
}

}  // namespace unipool
