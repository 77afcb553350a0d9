#include "models/visible_experts.h"

#include "kernels/host_values.h"

namespace unipool {

VisibleExperts::VisibleExperts(const ModelSpec& spec, DType dtype, Stream& stream, MemoryMeter& memory)
    : buffer_(Buffer::Allocate(memory, MemoryKind::kScratch, spec.layers * spec.experts * SizeOf(dtype))),
      all_(buffer_.View(dtype, {spec.layers, spec.experts})) {
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::vector<double> row(spec.visible[layer].begin(), spec.visible[layer].end());
    SetValues(stream, row, of(layer));
  }
}

}  // namespace unipool
