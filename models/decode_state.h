// Generation's memory, see LanguageModel::Decode.
#pragma once

#include "models/layer_saved.h"

namespace unipool {

// Memory for one token on its way through the layers, and the keys and values of all tokens before it.
struct LanguageModel::DecodeState {
  LayerSaved saved;
  Buffer buffer;
  std::vector<Tensor> caches;  // per layer [s, 2 G d]
  Tensor rows, normed, inv_rms, logits;
  std::vector<int64_t> expert_offsets;

  DecodeState(const ModelSpec& spec, const ExpertPlacement& placement, DType dtype, MemoryMeter& memory)
      : saved(spec, 1, placement, dtype, nullptr, memory) {
    const int64_t cache_columns = 2 * spec.kv_heads * spec.head_size();
    const int64_t elements = spec.layers * spec.seq_length * cache_columns + (1 + spec.top_k) * spec.hidden +
                             1 + spec.padded_vocab;
    buffer = Buffer::Allocate(memory, MemoryKind::kActivations, elements * SizeOf(dtype));
    const Tensor flat = buffer.View(dtype, {elements});
    int64_t begin = 0;
    auto take = [&](int64_t rows, int64_t columns) {
      const Tensor part = flat.Rows(begin, rows * columns).Reshape({rows, columns});
      begin += rows * columns;
      return part;
    };
    for (int64_t l = 0; l < spec.layers; ++l) caches.push_back(take(spec.seq_length, cache_columns));
    rows = take(spec.top_k, spec.hidden);
    normed = take(1, spec.hidden);
    inv_rms = take(1, 1).Reshape({1});
    logits = take(1, spec.padded_vocab);
  }
};

}  // namespace unipool
