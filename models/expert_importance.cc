#include "models/expert_importance.h"

#include "kernels/reduce.h"

namespace unipool {

ExpertImportance::ExpertImportance(const ModelSpec& spec, Stream& stream, MemoryMeter& memory)
    : stream_(stream),
      buffer_(Buffer::Allocate(memory, MemoryKind::kScratch, spec.layers * spec.experts * 8)),
      all_(buffer_.View(DType::kF64, {spec.layers, spec.experts})) {}

void ExpertImportance::BeginStep() {
  Fill(stream_, all_, 0);
}

}  // namespace unipool
