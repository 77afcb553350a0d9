// Which experts a layer may use, as the router's kernels read it: the numbers of ModelSpec::visible and of
// Visibility on the stream's device.
#pragma once

#include "models/visibility.h"
#include "runtime/stream.h"

namespace unipool {

class VisibleExperts {
 public:
  // `dtype` is the type of the router's numbers. `memory` counts the memory of the stream's device.
  VisibleExperts(const ModelSpec& spec, DType dtype, Stream& stream, MemoryMeter& memory);

  void Send(const Visibility& visibility);  // to the device, for what is enqueued after it

  Tensor of(int layer) const { return Row(all_, layer); }  // [M] in 0..1
  // [M] in 0..1; empty while the layer may use all that it sees.
  Tensor attenuation(int layer) const { return is_attenuated_[layer] ? Row(attenuation_, layer) : Tensor{}; }

 private:
  static Tensor Row(const Tensor& rows, int layer) { return rows.Rows(layer, 1).Reshape({rows.dim(1)}); }
  Stream& stream_;
  Buffer buffer_;
  Tensor all_, attenuation_;  // [L, M]
  std::vector<bool> is_attenuated_;
};

}  // namespace unipool
