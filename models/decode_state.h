// Generation's memory, see LanguageModel::NextLogits.
#pragma once

#include <vector>

#include "models/layer_saved.h"

namespace unipool {

// Memory for one token on its way through the layers, and the keys and values of all tokens before it.
struct DecodeState {
  DecodeState(const ModelSpec& spec, const ExpertPlacement& placement, DType dtype, DeviceContext* device,
              MemoryMeter& memory);

  Buffer saved_buffer;
  LayerSaved saved;
  Buffer buffer, exact_buffer;
  std::vector<Tensor> caches;  // per layer [s, 2 G d]
  Tensor rows;                 // [K, D]
  Tensor normed, inv_rms;      // [1, D], [1] of the final norm
  Tensor logits;               // [1, V]
  Tensor token;                // [1] I32
  std::vector<int64_t> expert_offsets;
  // On a device: logits of AccumulatorOf(dtype) on their way to the host, and where they arrive.
  Tensor exact_logits;
  std::vector<char> host_logits;
};

}  // namespace unipool
