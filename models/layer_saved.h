// What one (microbatch, layer) keeps from its forward until its backward, in one buffer.
#pragma once

#include "models/language_model.h"

namespace unipool {

struct LanguageModel::LayerSaved {
  AttentionLayer::Saved attention;
  MoeLayer::Saved moe;
  Buffer buffer;

  // `internals`: where all layers have attention's fields but x, if they recompute them; null: kept here.
  LayerSaved(const ModelSpec& spec, int64_t tokens, const ExpertPlacement& placement, DType dtype,
             const AttentionLayer::Saved* internals, MemoryMeter& memory) {
    const int64_t bytes = SavedBytes(spec, tokens, dtype, internals != nullptr);
    buffer = Buffer::Allocate(memory, MemoryKind::kActivations, bytes);
    if (internals) attention = *internals;
    Place(spec, tokens, dtype, internals == nullptr, static_cast<char*>(buffer.data()));
    moe.is_sent.resize(tokens * spec.top_k);
    moe.handle.plan.Reserve(tokens, static_cast<int>(spec.top_k), placement);
  }
  LayerSaved() = default;

  // Lays all fields (attention's but x only if it keeps them) out from `base` on and returns the bytes they
  // take. `h`, the boundary between the halves, belongs to the MoE half.
  int64_t Place(const ModelSpec& spec, int64_t tokens, DType dtype, bool keeps_internals, char* base) {
    const int64_t d = spec.hidden, m = spec.experts, k = spec.top_k;
    int64_t bytes = 0;
    auto place = [&](Tensor& tensor, DType type, std::initializer_list<int64_t> shape) {
      tensor = Tensor(base ? base + bytes : nullptr, type, shape);
      bytes += (tensor.bytes() + 63) / 64 * 64;
    };
    place(attention.x, dtype, {tokens, d});
    if (keeps_internals) {
      char* const begin = base ? base + bytes : nullptr;
      bytes += AttentionLayer::PlaceInternals(spec, tokens, dtype, begin, attention);
    }
    place(moe.h, dtype, {tokens, d});
    place(moe.inv_rms, dtype, {tokens});
    place(moe.normed, dtype, {tokens, d});
    place(moe.router.logits, dtype, {tokens, m});
    place(moe.router.scores, dtype, {tokens, m});
    place(moe.router.experts, DType::kI32, {tokens, k});
    place(moe.router.weights, dtype, {tokens, k});
    place(moe.router.score_sum, DType::kF64, {m});
    place(moe.router.counts, DType::kI64, {m});
    place(moe.y, dtype, {tokens * k, d});
    return bytes;
  }
};

}  // namespace unipool
