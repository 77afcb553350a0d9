// From the experts that tokens chose to the rows that travel, and from the rows that arrive to each expert's batch. Pure
// functions of numbers (DESIGN section 6). The vectors keep their capacity, so reusing a plan allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/expert_placement.h"

namespace unipool {

// Source side. Rows are ordered by (owner rank, expert, token, k); choices with weight 0 are not sent.
struct SendPlan {
  int64_t num_rows = 0;                   // N
  std::vector<int32_t> row_of;            // [T, K] row of each choice, -1 where not sent
  std::vector<int32_t> token_of;          // [N] token of each row
  std::vector<int32_t> rows_of_expert;    // [M] in placement.send_order()
  std::vector<int64_t> rank_offsets;      // [W + 1] rows for rank r: [rank_offsets[r], rank_offsets[r+1])
  void Reserve(int64_t max_tokens, int top_k, const ExpertPlacement& placement);
};
// experts [T, K] row-major; sent[t*K + k] says whether the choice has a non-zero weight.
void BuildSendPlan(std::span<const int32_t> experts, std::span<const uint8_t> sent, int top_k,
                   const ExpertPlacement& placement, SendPlan& plan);

// Owner side. rows[q * E + e]: rows that source rank q sends to this rank's local expert e. Received rows lie source-major
// (q, then expert, then the source's order); experts want them expert-major (e, then q).
struct OwnerPlan {
  int64_t num_rows = 0;                  // R
  std::vector<int64_t> expert_offsets;   // [E + 1] in expert-major order
  std::vector<int64_t> source_offsets;   // [W + 1] in source-major order
  std::vector<int32_t> source_row;       // [R] source-major row of each expert-major row
  void Reserve(int64_t max_rows, int num_experts, int num_ranks);
};
void BuildOwnerPlan(std::span<const int32_t> rows, int num_ranks, int num_experts, OwnerPlan& plan);

}  // namespace unipool
