// From the rows of each expert to what travels between ranks, and from the rows that arrive to each expert's
// batch. Pure functions of numbers, on the host whatever the device. They know how many rows there are, not
// which choice is which row (kernels/row_order.h). The vectors keep their capacity, so reusing a plan
// allocates nothing. Both plans of an example: parallel/DISPATCH.md, "Counts". Letters: README.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/expert_placement.h"

namespace unipool {

// Source side. Rows are ordered by (owner rank, expert, token, k). Choices with weight 0 are not sent.
struct SendPlan {
  int64_t num_rows = 0;                 // N
  std::vector<int32_t> rows_of_expert;  // [P] of the expert at each place, in placement.send_order()
  std::vector<int64_t> rank_offsets;    // [W + 1] rows for rank r: [rank_offsets[r], rank_offsets[r+1])
  SendPlan() = default;
  explicit SendPlan(const ExpertPlacement& placement);  // 0 rows; sizes all vectors for good
};
// Fills everything else from plan.rows_of_expert.
void BuildSendPlan(const ExpertPlacement& placement, SendPlan& plan);

// Owner side, for E local experts and W source ranks. Received rows lie source-major: by source, then expert,
// then the source's order. Experts want them expert-major: by expert, then source. Both orders consist of the
// same W * E segments. A segment is contiguous in both, so rows move in few large copies.
struct OwnerPlan {
  int num_ranks = 0, num_experts = 0;     // W, E
  int64_t num_rows = 0;                   // R
  std::vector<int32_t> rows;              // [W, E] rows that a source sends to a local expert
  std::vector<int64_t> expert_offsets;    // [E + 1] in expert-major order
  std::vector<int64_t> source_offsets;    // [W + 1] in source-major order
  std::vector<int64_t> first_expert_row;  // [W, E] where the segment begins in expert-major order
  std::vector<int64_t> first_source_row;  // [W, E] where it begins among the rows of its source
  OwnerPlan() = default;
  OwnerPlan(int num_ranks, int num_experts);  // 0 rows; sizes all vectors for good
};
// Fills everything else from plan.rows.
void BuildOwnerPlan(OwnerPlan& plan);

}  // namespace unipool
