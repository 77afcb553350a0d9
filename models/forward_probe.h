// Who looks at the inside of a forward pass, beside the loss (LanguageModel::SetProbe). For evaluations: on a
// device its tensors are the device's, and reading them waits.
#pragma once

#include "models/moe_layer.h"

namespace unipool {

class ForwardProbe {
 public:
  virtual ~ForwardProbe() = default;
  // A layer (of the model) has chosen its experts for a microbatch, whose first `tokens` tokens count.
  virtual void Routed(int layer, const Router::Saved& router, int64_t tokens) = 0;
  // The hidden states [T, D] behind the layer, and the token that follows each, [T] I32.
  virtual void Left(int layer, const Tensor& hidden, const Tensor& targets, int64_t tokens) = 0;
};

}  // namespace unipool
