#include "parallel/dispatch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <tuple>

#include "tests/fresh_seed.h"
#include "tests/parallel/planned_rows.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;

TEST(SendPlan, OrderIsOwnerExpertToken) {
  // Rank 0 owns experts 1 and 2, rank 1 owns expert 0.
  const ExpertPlacement placement({1, 0, 0}, 2);
  SendPlan plan(placement);
  const PlannedRows rows = PlanRows({0, 2, 2, 1, 0, 1}, {1, 1, 1, 0, 1, 1}, /*top_k=*/2, placement, plan);
  EXPECT_EQ(plan.num_rows, 5);
  EXPECT_THAT(plan.rows_of_expert, ElementsAre(1, 2, 2));  // experts 1, 2, 0
  EXPECT_THAT(plan.rank_offsets, ElementsAre(0, 3, 5));
  EXPECT_THAT(rows.row_of, ElementsAre(3, 1, 2, -1, 4, 0));
  EXPECT_THAT(rows.token_of, ElementsAre(2, 0, 1, 0, 2));
}

// The definition: sort the sent choices.
void ExpectIsSorted(const std::vector<int32_t>& experts, const std::vector<uint8_t>& sent, int top_k,
                    const ExpertPlacement& placement, const SendPlan& plan, const PlannedRows& rows) {
  std::vector<std::tuple<int, int, int>> order;  // owner, expert, choice
  for (size_t i = 0; i < experts.size(); ++i) {
    if (sent[i]) order.emplace_back(placement.owner(experts[i]), experts[i], i);
  }
  std::sort(order.begin(), order.end());
  std::vector<int32_t> row_of(experts.size(), -1), token_of, rows_of_expert(placement.num_experts());
  std::vector<int64_t> rank_offsets(placement.num_ranks() + 1);
  for (const auto& [owner, expert, choice] : order) {
    row_of[choice] = static_cast<int32_t>(token_of.size());
    token_of.push_back(choice / top_k);
    const auto& send_order = placement.send_order();
    ++rows_of_expert[std::find(send_order.begin(), send_order.end(), expert) - send_order.begin()];
    for (int rank = owner; rank < placement.num_ranks(); ++rank) ++rank_offsets[rank + 1];
  }
  EXPECT_EQ(plan.num_rows, static_cast<int64_t>(order.size()));
  EXPECT_EQ(rows.row_of, row_of);
  EXPECT_EQ(rows.token_of, token_of);
  EXPECT_EQ(plan.rows_of_expert, rows_of_expert);
  EXPECT_EQ(plan.rank_offsets, rank_offsets);
}

TEST(SendPlan, IsAStableSortForRandomChoices) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  for (int round = 0; round < 500; ++round) {
    const int num_ranks = 1 + random() % 5, num_experts = 1 + random() % 12, top_k = 1 + random() % 3;
    std::vector<int> owner(num_experts);
    for (int& rank : owner) rank = random() % num_ranks;
    const ExpertPlacement placement(owner, num_ranks);
    std::vector<int32_t> experts((random() % 20) * top_k);
    std::vector<uint8_t> sent(experts.size());
    const unsigned share = random() % 4;  // of sent choices: none, some, all
    for (size_t i = 0; i < experts.size(); ++i) {
      experts[i] = random() % num_experts;
      sent[i] = random() % 3 < share;
    }
    SendPlan plan(placement);
    for (int32_t& rows : plan.rows_of_expert) rows = random() % 99;  // nothing of a plan before may remain
    for (int64_t& offset : plan.rank_offsets) offset = random() % 99;
    const PlannedRows rows = PlanRows(experts, sent, top_k, placement, plan);
    ExpectIsSorted(experts, sent, top_k, placement, plan, rows);
  }
}

TEST(SendPlan, BuildingKeepsItsMemory) {
  const ExpertPlacement placement = ContiguousPlacement(7, 3);
  SendPlan plan(placement);
  const void* const before[] = {plan.rows_of_expert.data(), plan.rank_offsets.data()};
  plan.rows_of_expert = {3, 0, 2, 2, 1, 0, 4};
  BuildSendPlan(placement, plan);
  EXPECT_EQ(plan.num_rows, 12);
  EXPECT_EQ(plan.rows_of_expert.data(), before[0]);
  EXPECT_EQ(plan.rank_offsets.data(), before[1]);
}

TEST(OwnerPlan, SegmentsOfTwoSourcesAndTwoExperts) {
  OwnerPlan plan(2, 2);
  plan.rows = {3, 1, 2, 5};
  BuildOwnerPlan(plan);
  EXPECT_EQ(plan.num_rows, 11);
  EXPECT_THAT(plan.expert_offsets, ElementsAre(0, 5, 11));
  EXPECT_THAT(plan.source_offsets, ElementsAre(0, 4, 11));
  EXPECT_THAT(plan.first_expert_row, ElementsAre(0, 5, 3, 6));
  EXPECT_THAT(plan.first_source_row, ElementsAre(0, 3, 0, 2));
}

TEST(OwnerPlan, BothOrdersHoldEveryRowOnce) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  for (int round = 0; round < 300; ++round) {
    OwnerPlan plan(1 + random() % 5, random() % 6);  // also without experts
    for (int32_t& rows : plan.rows) rows = random() % 4;
    BuildOwnerPlan(plan);
    const int num_experts = plan.num_experts;
    ASSERT_EQ(plan.num_rows, std::accumulate(plan.rows.begin(), plan.rows.end(), int64_t{0}));
    int64_t next = 0;
    for (int e = 0; e < num_experts; ++e) {
      EXPECT_EQ(plan.expert_offsets[e], next);
      for (int q = 0; q < plan.num_ranks; ++q) {
        EXPECT_EQ(plan.first_expert_row[q * num_experts + e], next);
        next += plan.rows[q * num_experts + e];
      }
    }
    EXPECT_EQ(plan.expert_offsets[num_experts], next);
    next = 0;
    for (int q = 0; q < plan.num_ranks; ++q) {
      EXPECT_EQ(plan.source_offsets[q], next);
      for (int e = 0; e < num_experts; ++e) {
        EXPECT_EQ(plan.source_offsets[q] + plan.first_source_row[q * num_experts + e], next);
        next += plan.rows[q * num_experts + e];
      }
    }
    EXPECT_EQ(plan.source_offsets[plan.num_ranks], next);
  }
}

}  // namespace
}  // namespace unipool
