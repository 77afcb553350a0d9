// How much the loss depends on each expert, for each layer that uses it: the sum over the step's rows of
//
//   score * d(loss) / d(score),  without the balancing loss
//
// The router's backward adds it up on its way, so it costs no pass of its own. It tells which experts a layer
// could do without, once layers keep some experts of the pool and give up the others.
#pragma once

#include "models/model_spec.h"
#include "runtime/stream.h"

namespace unipool {

class ExpertImportance {
 public:
  // Memory of the stream's device, which `memory` counts.
  ExpertImportance(const ModelSpec& spec, Stream& stream, MemoryMeter& memory);

  void BeginStep();  // importance is zero
  // This rank's rows since BeginStep, in layers of its stage; the ranks' sum is the model's.
  Tensor of(int layer) const { return all_.Rows(layer, 1).Reshape({all_.dim(1)}); }  // [M] F64
  const Tensor& all() const { return all_; }                                         // [L, M] F64

 private:
  Stream& stream_;
  Buffer buffer_;
  Tensor all_;
};

}  // namespace unipool
