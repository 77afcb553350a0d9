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

inline PlannedRows PlanRows(std::vector<int32_t> experts, const std::vector<uint8_t>& sent, int top_k,
                            const ExpertPlacement& placement, SendPlan& plan) {
  const auto choices = static_cast<int64_t>(experts.size());
  std::vector<float> weights(sent.begin(), sent.end());
  std::vector<int32_t> send_index(placement.num_experts());
  for (int e = 0; e < placement.num_experts(); ++e) send_index[e] = placement.send_index(e);
  PlannedRows rows{std::vector<int32_t>(choices, -2), std::vector<int32_t>(choices, -2)};
  if (plan.rows_of_expert.empty()) plan = SendPlan(placement);
  const auto table = [&](std::vector<int32_t>& values) {
    return Tensor(values.data(), DType::kI32, {choices / top_k, top_k});
  };
  MemoryMeter memory;
  Stream stream(memory);
  OrderRows(stream, table(experts), Tensor(weights.data(), DType::kF32, {choices / top_k, top_k}),
            Tensor(send_index.data(), DType::kI32, {placement.num_experts()}),
            {.row_of = table(rows.row_of),
             .token_of = Tensor(rows.token_of.data(), DType::kI32, {choices}),
             .rows_of_expert = Tensor(plan.rows_of_expert.data(), DType::kI32, {placement.num_experts()})});
  BuildSendPlan(placement, plan);
  rows.token_of.resize(plan.num_rows);
  return rows;
}

}  // namespace unipool
