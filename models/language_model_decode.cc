// Generation: LanguageModel::NextLogits.
#include "kernels/host_values.h"
#include "kernels/reduce.h"
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
  if (!decode_) {
    decode_ = std::make_unique<DecodeState>(spec_, placement_, options_.types.activations, options_.device,
                                            memory_);
  }
  DecodeState& state = *decode_;
  LayerSaved& saved = state.saved;
  AttentionShape one_token = spec_.attention(1);
  one_token.sequence_length = 1;

  if (position == 0) BeginRun();
  const double id = token;
  SetValues(stream_, {&id, 1}, state.token);
  inputs_.Embed(state.token, saved.attention.x);
  for (size_t l = 0; l < layers_.size(); ++l) {
    layers_[l]->attention.Decode(one_token, rope_, saved.attention, state.caches[l], position, saved.moe.h);
    layers_[l]->moe.ForwardRoute(saved.moe, send_order_, 0);
    saved.SendReport();
    saved.WaitForReport({.operation = "row counts"});
    layers_[l]->moe.Plan(saved.moe);
    const SendPlan& plan = saved.moe.handle.plan;
    state.expert_offsets.assign(1, 0);
    for (const int32_t rows : plan.rows_of_expert) {
      state.expert_offsets.push_back(state.expert_offsets.back() + rows);
    }
    const OwnerBatch batch{.expert_offsets = state.expert_offsets,
                           .experts = {0, std::ssize(plan.rows_of_expert)},
                           .x = state.rows.Rows(0, plan.num_rows)};
    layers_[l]->moe.ForwardPermute(saved.moe, batch.x, stream_);
    experts.Forward(batch, Tensor{}, saved.moe.rows_of_y());
    layers_[l]->moe.ForwardUnpermute(saved.moe, saved.attention.x);
  }
  head_.Logits(saved.attention.x, state.normed, state.inv_rms, state.logits);
  return state.logits;
}

}  // namespace unipool
