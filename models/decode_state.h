// Generation's memory, see LanguageModel::NextLogits.
#pragma once

#include "models/layer_saved.h"

namespace unipool {

// Memory for one token on its way through the layers, and the keys and values of all tokens before it.
struct LanguageModel::DecodeState {
  Buffer saved_buffer;
  LayerSaved saved;
  Buffer buffer, exact_buffer;
  std::vector<Tensor> caches;  // per layer [s, 2 G d]
  Tensor rows, normed, inv_rms, logits, token;
  Tensor exact_logits;            // [1, V] of AccumulatorOf(dtype), on their way to the host
  std::vector<char> host_logits;  // where they arrive
  std::vector<int64_t> expert_offsets;
  static constexpr int64_t kGap = 64;  // bytes between the beginnings of arrays, at least

  DecodeState(const ModelSpec& spec, const ExpertPlacement& placement, DType dtype, DeviceContext* device,
              MemoryMeter& memory)
      : saved_buffer(Buffer::Allocate(memory, MemoryKind::kActivations, SavedBytes(spec, 1, dtype, false))),
        saved(spec, 1, placement, dtype, nullptr, device, static_cast<char*>(saved_buffer.data())) {
    const int64_t cache_columns = 2 * spec.kv_heads * spec.head_size();
    const int64_t rows_in_all =
        spec.layers * spec.seq_length * cache_columns + (1 + spec.top_k) * spec.hidden + spec.padded_vocab;
    const int64_t most_bytes = rows_in_all * SizeOf(dtype) + kGap * (spec.layers + 5);
    buffer = Buffer::Allocate(memory, MemoryKind::kActivations, most_bytes);
    char* next = static_cast<char*>(buffer.data());
    auto take_as = [&](DType type, int64_t rows, int64_t columns) {
      const Tensor part(next, type, {rows, columns});
      next += (part.bytes() + kGap - 1) / kGap * kGap;
      return part;
    };
    auto take = [&](int64_t rows, int64_t columns) { return take_as(dtype, rows, columns); };
    for (int64_t l = 0; l < spec.layers; ++l) caches.push_back(take(spec.seq_length, cache_columns));
    rows = take(spec.top_k, spec.hidden);
    normed = take(1, spec.hidden);
    inv_rms = take_as(AccumulatorOf(dtype), 1, 1).Reshape({1});
    token = take_as(DType::kI32, 1, 1).Reshape({1});
    logits = take(1, spec.padded_vocab);
    if (!device) return;
    const DType exact = AccumulatorOf(dtype);
    exact_buffer = Buffer::Allocate(memory, MemoryKind::kScratch, spec.padded_vocab * SizeOf(exact));
    exact_logits = exact_buffer.View(exact, {1, spec.padded_vocab});
    host_logits.resize(exact_logits.bytes());
  }
};

}  // namespace unipool
