// Where each expert stands in the order in which rows travel, as the kernels that order rows read it.
#pragma once

#include <vector>

#include "models/model_spec.h"
#include "parallel/expert_placement.h"
#include "runtime/stream.h"

namespace unipool {

class SendOrder {
 public:
  // `memory` counts the memory of the stream's device. The placement must outlive it.
  SendOrder(const ModelSpec& spec, const ExpertPlacement& placement, Stream& stream, MemoryMeter& memory);

  // Experts may have moved: to be called before the first forward of a run.
  void Refresh();
  Tensor index() const { return buffer_.View(DType::kI32, {static_cast<int64_t>(values_.size())}); }  // [M]

 private:
  const ExpertPlacement& placement_;
  Stream& stream_;
  Buffer buffer_;
  std::vector<double> values_;  // [M]
};

}  // namespace unipool
