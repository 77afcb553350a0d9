// Where each expert stands in the order in which rows travel, and which of its rows each of its copies gets,
// as the kernels that order rows read it (kernels/row_order.h, kernels/row_deal.h).
#pragma once

#include <vector>

#include "kernels/row_deal.h"
#include "models/model_spec.h"
#include "parallel/expert_placement.h"
#include "runtime/range.h"
#include "runtime/stream.h"

namespace unipool {

struct SendOrderOptions {
  Range layers;              // of this stage
  std::vector<int> sources;  // ranks of the pool group that have these layers, ascending
  int rank = 0;              // this one
};

class SendOrder {
 public:
  // `memory` counts the memory of the stream's device. The placement must outlive it.
  SendOrder(const ModelSpec& spec, const ExpertPlacement& placement, const SendOrderOptions& options,
            Stream& stream, MemoryMeter& memory);

  // Experts may have moved: to be called before the first forward of a run.
  void Refresh();
  // [M] for OrderRows: an expert's place, or with shadows the expert itself, since DealRows knows places.
  Tensor index() const { return buffer_.View(DType::kI32, {num_experts_}); }

  // With room for shadows rows are dealt to copies.
  bool deals_rows() const { return placement_.num_shadows() > 0; }
  RowDeal DealOf(int layer) const;  // of the model; one of this stage
  // Neighbours of one expert: microbatches, then sources, then layers.
  int64_t Turn(int layer, int64_t microbatch) const;

 private:
  Tensor Part(int64_t begin, int64_t size) const;
  void SendDeals();

  const int64_t num_experts_;
  const ExpertPlacement& placement_;
  const SendOrderOptions options_;
  Stream& stream_;
  Buffer buffer_;           // [M]; with shadows also [M + 1], [P] and [layers, P]
  ExpertPlacement sent_;    // whose deals the device has
  int64_t num_copies_ = 0;  // of all experts
  std::vector<double> values_;
};

}  // namespace unipool
