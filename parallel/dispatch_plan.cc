#include "parallel/dispatch_plan.h"

#include "runtime/errors.h"

namespace unipool {

SendPlan::SendPlan(const ExpertPlacement& placement)
    : rows_of_expert(placement.num_places()), rank_offsets(placement.num_ranks() + 1) {}

void BuildSendPlan(const ExpertPlacement& placement, SendPlan& plan) {
  CHECK_EQ(static_cast<int>(plan.rows_of_expert.size()), placement.num_places());
  plan.rank_offsets.assign(placement.num_ranks() + 1, 0);
  for (int rank = 0; rank < placement.num_ranks(); ++rank) {
    int64_t rows = 0;
    for (int i = placement.first_of(rank); i < placement.first_of(rank + 1); ++i)
      rows += plan.rows_of_expert[i];
    plan.rank_offsets[rank + 1] = plan.rank_offsets[rank] + rows;
  }
  plan.num_rows = plan.rank_offsets.back();
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
