// The send plan of given choices, with the row of each choice, as a layer makes it.
#pragma once

#include <vector>

#include "kernels/row_order.h"
#include "parallel/dispatch_plan.h"

namespace unipool {

struct PlannedRows {
  std::vector<int32_t> row_of;    // [T * K], -1 where not sent
  std::vector<int32_t> token_of;  // [N]
};

// Uses its memory again.
class RowPlanner {
 public:
  const PlannedRows& Plan(const std::vector<int32_t>& experts, const std::vector<uint8_t>& sent, int top_k,
                          const ExpertPlacement& placement, SendPlan& plan) {
    const auto choices = static_cast<int64_t>(experts.size()), tokens = choices / top_k;
    experts_ = experts;
    weights_.assign(sent.begin(), sent.end());
    send_index_.resize(placement.num_experts());
    for (int e = 0; e < placement.num_experts(); ++e) send_index_[e] = placement.send_index(e);
    rows_.row_of.assign(choices, -2);
    rows_.token_of.assign(choices, -2);
    OrderRows(stream_, Numbers(experts_, {tokens, top_k}),
              Tensor(weights_.data(), DType::kF32, {tokens, top_k}),
              Numbers(send_index_, {placement.num_experts()}),
              {.row_of = Numbers(rows_.row_of, {tokens, top_k}),
               .token_of = Numbers(rows_.token_of, {choices}),
               .rows_of_expert = Numbers(plan.rows_of_expert, {placement.num_experts()})});
    BuildSendPlan(placement, plan);
    rows_.token_of.resize(plan.num_rows);
    return rows_;
  }

 private:
  static Tensor Numbers(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
    return Tensor(values.data(), DType::kI32, shape);
  }
  MemoryMeter memory_;
  Stream stream_{memory_};
  std::vector<int32_t> experts_, send_index_;
  std::vector<float> weights_;
  PlannedRows rows_;
};

inline PlannedRows PlanRows(const std::vector<int32_t>& experts, const std::vector<uint8_t>& sent, int top_k,
                            const ExpertPlacement& placement, SendPlan& plan) {
  if (plan.rows_of_expert.empty()) plan = SendPlan(placement);
  return RowPlanner().Plan(experts, sent, top_k, placement, plan);
}

}  // namespace unipool
