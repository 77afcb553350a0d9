// Which experts a layer may use, as the router's kernels read it: the numbers of ModelSpec::visible on the
// stream's device.
#pragma once

#include "models/model_spec.h"
#include "runtime/stream.h"

namespace unipool {

class VisibleExperts {
 public:
  // `dtype` is the type of the router's numbers. `memory` counts the memory of the stream's device.
  VisibleExperts(const ModelSpec& spec, DType dtype, Stream& stream, MemoryMeter& memory);

  Tensor of(int layer) const { return all_.Rows(layer, 1).Reshape({all_.dim(1)}); }  // [M] in 0..1

 private:
  Buffer buffer_;
  Tensor all_;  // [L, M]
};

}  // namespace unipool
