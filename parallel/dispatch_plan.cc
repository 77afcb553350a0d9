#include "parallel/dispatch_plan.h"

#include "runtime/errors.h"

namespace unipool {

void SendPlan::Reserve(int64_t max_tokens, int top_k, const ExpertPlacement& placement) {
  row_of.reserve(max_tokens * top_k);
  token_of.reserve(max_tokens * top_k);
  rows_of_expert.reserve(placement.num_experts());
  rank_offsets.reserve(placement.num_ranks() + 1);
}

namespace {

// A counting sort by expert. rows_of_expert serves as the cursor of each expert: first its count, then its
// first row, after the placing its end, and at last its count again.
void PlaceRows(std::span<const int32_t> experts, std::span<const uint8_t> sent, int top_k,
               const ExpertPlacement& placement, SendPlan& plan) {
  std::vector<int32_t>& cursor = plan.rows_of_expert;
  int32_t first = 0;
  for (int32_t& rows : cursor) {
    const int32_t count = rows;
    rows = first;
    first += count;
  }
  for (size_t choice = 0; choice < experts.size(); ++choice) {
    if (!sent[choice]) continue;
    const int32_t row = cursor[placement.send_index(experts[choice])]++;
    plan.row_of[choice] = row;
    plan.token_of[row] = static_cast<int32_t>(choice / top_k);
  }
  for (size_t i = cursor.size(); i-- > 1;) cursor[i] -= cursor[i - 1];
}

}  // namespace

void BuildSendPlan(std::span<const int32_t> experts, std::span<const uint8_t> sent, int top_k,
                   const ExpertPlacement& placement, SendPlan& plan) {
  CHECK_EQ(experts.size(), sent.size());
  CHECK_EQ(experts.size() % top_k, 0u);
  plan.row_of.assign(experts.size(), -1);
  plan.rows_of_expert.assign(placement.num_experts(), 0);
  plan.num_rows = 0;
  for (size_t choice = 0; choice < experts.size(); ++choice) {
    if (!sent[choice]) continue;
    CHECK(experts[choice] >= 0 && experts[choice] < placement.num_experts()) << experts[choice];
    ++plan.rows_of_expert[placement.send_index(experts[choice])];
    ++plan.num_rows;
  }
  plan.token_of.resize(plan.num_rows);
  PlaceRows(experts, sent, top_k, placement, plan);
  plan.rank_offsets.assign(placement.num_ranks() + 1, 0);
  for (int rank = 0; rank < placement.num_ranks(); ++rank) {
    int64_t rows = 0;
    for (int i = placement.first_of(rank); i < placement.first_of(rank + 1); ++i)
      rows += plan.rows_of_expert[i];
    plan.rank_offsets[rank + 1] = plan.rank_offsets[rank] + rows;
  }
}

OwnerPlan::OwnerPlan(int num_ranks, int num_experts)
    : num_ranks(num_ranks),
      num_experts(num_experts),
      rows(num_ranks * num_experts),
      expert_offsets(num_experts + 1),
      source_offsets(num_ranks + 1),
      first_expert_row(num_ranks * num_experts),
      first_source_row(num_ranks * num_experts) {}

void BuildOwnerPlan(OwnerPlan& plan) {
  const int num_experts = plan.num_experts;
  for (int source = 0; source < plan.num_ranks; ++source) {
    int64_t row = 0;
    for (int expert = 0; expert < num_experts; ++expert) {
      plan.first_source_row[source * num_experts + expert] = row;
      row += plan.rows[source * num_experts + expert];
    }
    plan.source_offsets[source + 1] = plan.source_offsets[source] + row;
  }
  int64_t row = 0;
  for (int expert = 0; expert < num_experts; ++expert) {
    plan.expert_offsets[expert] = row;
    for (int source = 0; source < plan.num_ranks; ++source) {
      plan.first_expert_row[source * num_experts + expert] = row;
      row += plan.rows[source * num_experts + expert];
    }
  }
  plan.expert_offsets[num_experts] = row;
  plan.num_rows = row;
}

}  // namespace unipool
