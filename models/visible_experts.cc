#include "models/visible_experts.h"

#include "kernels/host_values.h"

namespace unipool {

VisibleExperts::VisibleExperts(const ModelSpec& spec, DType dtype, Stream& stream, MemoryMeter& memory)
    : stream_(stream),
      buffer_(Buffer::Allocate(memory, MemoryKind::kScratch, 2 * spec.layers * spec.experts * SizeOf(dtype))),
      is_attenuated_(spec.layers, false) {
  const Tensor both = buffer_.View(dtype, {2 * spec.layers, spec.experts});
  all_ = both.Rows(0, spec.layers);
  attenuation_ = both.Rows(spec.layers, spec.layers);
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::vector<double> row(spec.visible[layer].begin(), spec.visible[layer].end());
    SetValues(stream, row, of(layer));
  }
}

void VisibleExperts::Send(const Visibility& visibility) {
  for (int layer = 0; layer < all_.rows(); ++layer) {
    is_attenuated_[layer] = !visibility.is_as_set(layer);
    if (!is_attenuated_[layer]) continue;
    const std::span<const float> factors = visibility.of(layer);
    const std::vector<double> row(factors.begin(), factors.end());
    SetValues(stream_, row, Row(attenuation_, layer));
  }
}

}  // namespace unipool
