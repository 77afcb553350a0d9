#include "models/send_order.h"

#include "kernels/host_values.h"

namespace unipool {

SendOrder::SendOrder(const ModelSpec& spec, const ExpertPlacement& placement, Stream& stream,
                     MemoryMeter& memory)
    : placement_(placement),
      stream_(stream),
      buffer_(Buffer::Allocate(memory, MemoryKind::kScratch, spec.experts * 4)),
      values_(spec.experts) {}

void SendOrder::Refresh() {
  for (size_t expert = 0; expert < values_.size(); ++expert) {
    values_[expert] = placement_.send_index(static_cast<int>(expert));
  }
  SetValues(stream_, values_, index());
}

}  // namespace unipool
