// The send plan of given choices, with the row of each choice, as a layer makes it.
#pragma once

#include <vector>

#include "kernels/row_deal.h"
#include "parallel/dispatch_plan.h"

namespace unipool {

struct PlannedRows {
  std::vector<int32_t> row_of;    // [T * K], -1 where not sent
  std::vector<int32_t> token_of;  // [N]
};

// Uses its memory again. With shadows every source deals by the shares of layer 0, in turn 0.
class RowPlanner {
 public:
  const PlannedRows& Plan(const std::vector<int32_t>& experts, const std::vector<uint8_t>& sent, int top_k,
                          const ExpertPlacement& placement, SendPlan& plan) {
    const auto choices = static_cast<int64_t>(experts.size()), tokens = choices / top_k;
    experts_ = experts;
    weights_.assign(sent.begin(), sent.end());
    send_index_.resize(placement.num_experts());
    const bool deals = placement.num_shadows() > 0;
    for (int e = 0; e < placement.num_experts(); ++e) send_index_[e] = deals ? e : placement.send_index(e);
    rows_of_expert_.resize(placement.num_experts());
    rows_.row_of.assign(choices, -2);
    rows_.token_of.assign(choices, -2);
    const RowOrder order{
        .row_of = Numbers(rows_.row_of, {tokens, top_k}),
        .token_of = Numbers(rows_.token_of, {choices}),
        .rows_of_expert = Numbers(deals ? rows_of_expert_ : plan.rows_of_expert, {placement.num_experts()})};
    OrderRows(stream_, Numbers(experts_, {tokens, top_k}),
              Tensor(weights_.data(), DType::kF32, {tokens, top_k}),
              Numbers(send_index_, {placement.num_experts()}), order);
    if (deals) Deal(placement, order, plan, {tokens, top_k});
    BuildSendPlan(placement, plan);
    rows_.token_of.resize(plan.num_rows);
    return rows_;
  }

 private:
  void Deal(const ExpertPlacement& placement, const RowOrder& order, SendPlan& plan,
            std::initializer_list<int64_t> choices) {
    first_copy_.assign(1, 0);
    place_.clear();
    end_.clear();
    for (int e = 0; e < placement.num_experts(); ++e) {
      int32_t end = 0;
      for (const int place : placement.places_of(e)) {
        place_.push_back(place);
        end_.push_back(end += placement.shares(0)[place]);
      }
      first_copy_.push_back(static_cast<int32_t>(place_.size()));
    }
    const auto copies = static_cast<int64_t>(place_.size());
    DealRows(stream_,
             {.first_copy = Numbers(first_copy_, {placement.num_experts() + 1}),
              .place = Numbers(place_, {copies}),
              .end = Numbers(end_, {copies})},
             Numbers(experts_, choices), /*turn=*/0, order,
             Numbers(plan.rows_of_expert, {placement.num_places()}));
  }
  static Tensor Numbers(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
    return Tensor(values.data(), DType::kI32, shape);
  }
  MemoryMeter memory_;
  Stream stream_{memory_};
  std::vector<int32_t> experts_, send_index_, rows_of_expert_, first_copy_, place_, end_;
  std::vector<float> weights_;
  PlannedRows rows_;
};

inline PlannedRows PlanRows(const std::vector<int32_t>& experts, const std::vector<uint8_t>& sent, int top_k,
                            const ExpertPlacement& placement, SendPlan& plan) {
  if (plan.rows_of_expert.empty()) plan = SendPlan(placement);
  return RowPlanner().Plan(experts, sent, top_k, placement, plan);
}

}  // namespace unipool
