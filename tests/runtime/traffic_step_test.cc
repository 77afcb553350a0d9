#include "runtime/traffic_step.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

struct RankShare {
  TrafficTally tally;
  std::vector<int64_t> rows;
};

RankShare ShareOf(int world, int num_slots) {
  return {.tally = TrafficTally(world), .rows = std::vector<int64_t>(2 * num_slots)};
}

TrafficStep SumOf(const std::vector<RankShare>& ranks, const std::vector<int>& pools, int num_slots,
                  int64_t step = 0) {
  std::vector<double> sums;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const TrafficStepSums own(static_cast<int>(r), pools, num_slots);
    std::vector<double> numbers(own.size());
    own.Fill(ranks[r].tally, ranks[r].rows, step, numbers);
    sums.resize(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) sums[i] += numbers[i];
  }
  return TrafficStepSums(0, pools, num_slots).Read(sums);
}

// Two ranks, two slots of the forward lane. Rank 0 receives 9 rows, then 1; rank 1 receives 1, then 9. Each
// slot has its largest at 9 of a mean of 5, so its ratio is 1.8. Over the step both ranks received 10 rows:
// the largest of the sums over their mean would be 1, and would hide it all.
TEST(TrafficStep, ImbalanceIsTheMeanOfTheLargestAndNotTheLargestOfTheMeans) {
  std::vector<RankShare> ranks(2, ShareOf(2, 2));
  ranks[0].rows = {9, 1, 0, 0};
  ranks[1].rows = {1, 9, 0, 0};
  const TrafficStep step = SumOf(ranks, {0, 0}, 2);
  EXPECT_DOUBLE_EQ(step.receive_imbalance.value(), 1.8);
  EXPECT_DOUBLE_EQ(step.receive_imbalance_p95.value(), 1.8);
}

// (slot, lane) with 3 ranks: 6 1 2 -> 6 / 3 = 2; 4 4 4 -> 1; nobody -> left out; 0 0 9 -> 3. Mean 2, p95 3.
TEST(TrafficStep, ImbalanceOfAHandMadeTable) {
  std::vector<RankShare> ranks(3, ShareOf(3, 2));
  ranks[0].rows = {6, 4, 0, 0};
  ranks[1].rows = {1, 4, 0, 0};
  ranks[2].rows = {2, 4, 0, 9};
  const TrafficStep step = SumOf(ranks, {0, 0, 0}, 2);
  EXPECT_DOUBLE_EQ(step.receive_imbalance.value(), 2);
  EXPECT_DOUBLE_EQ(step.receive_imbalance_p95.value(), 3);
  EXPECT_EQ(step.most_rows_received.value(), 9);
}

// Two pools of two ranks: each is compared within itself.
TEST(TrafficStep, PoolsAreComparedWithinThemselves) {
  std::vector<RankShare> ranks(4, ShareOf(4, 1));
  ranks[0].rows = {3, 0};
  ranks[1].rows = {1, 0};
  ranks[2].rows = {20, 0};
  ranks[3].rows = {20, 0};
  EXPECT_DOUBLE_EQ(SumOf(ranks, {0, 0, 1, 1}, 1).receive_imbalance.value(), (1.5 + 1) / 2);
}

TEST(TrafficStep, OneRankHasNoImbalance) {
  std::vector<RankShare> ranks(1, ShareOf(1, 1));
  ranks[0].rows = {3, 3};
  EXPECT_FALSE(SumOf(ranks, {0}, 1).receive_imbalance.has_value());
}

// So many slots that a step sees only some: over the steps each is seen.
TEST(TrafficStep, ManySlotsAreSeenInTurn) {
  // Twice too many for two ranks.
  const int num_slots = static_cast<int>(TrafficStepSums::kMostRowNumbers / 2);
  std::vector<RankShare> ranks(2, ShareOf(2, num_slots));
  ranks[0].rows[5] = 4;  // rank 1 gets none: ratio 2
  int seen = 0;
  for (int64_t step = 0; step < 4; ++step) {
    const TrafficStepSums own(0, {0, 0}, num_slots);
    ASSERT_LE(own.size(), TrafficStepSums::kMostRowNumbers + 100);
    const TrafficStep sum = SumOf(ranks, {0, 0}, num_slots, step);
    seen += sum.receive_imbalance.has_value();
    EXPECT_DOUBLE_EQ(sum.receive_imbalance.value_or(2), 2);
  }
  EXPECT_EQ(seen, 2);  // every other step
}

TEST(TrafficStep, TimesAndBytesOfTwoRanks) {
  std::vector<RankShare> ranks(2, ShareOf(2, 1));
  for (RankShare& rank : ranks) rank.tally.SetLayers(1);
  const int a = ranks[0].tally.IndexOf(0, "a"), b = ranks[1].tally.IndexOf(0, "a");
  ranks[0].tally.Add(a, 0, 0,
                     {.bytes_intra = 10,
                      .bytes_inter = 20,
                      .bytes_self = 1000,
                      .bytes_received = 5,
                      .blocked_ns = 8'000'000,
                      .idle_ns = 3'000'000,
                      .idle_receiver_ns = 1'000'000,
                      .wire_ns = 12'000'000,
                      .sender = 1,
                      .receiver = 1,
                      .is_split = true});
  ranks[1].tally.Add(b, 0, 0,
                     {.bytes_intra = 5,
                      .blocked_ns = 2'000'000,
                      .idle_ns = 1'000'000,
                      .wire_ns = 3'000'000,
                      .sender = 0,
                      .is_split = true});
  const TrafficStep step = SumOf(ranks, {0, 0}, 1);
  EXPECT_EQ(step.wire_bytes, 35);
  EXPECT_EQ(step.wire_bytes_inter, 20);
  EXPECT_DOUBLE_EQ(step.blocked_ms, 5);
  EXPECT_DOUBLE_EQ(step.idle_ms.value(), 2.5);
  EXPECT_DOUBLE_EQ(step.exposed_ms.value(), 2.5);
  EXPECT_DOUBLE_EQ(step.hidden_share.value(), (8.0 + 2.0) / (8 + 2 + 4 + 1));
  EXPECT_EQ(step.waited_for_rank.value(), 1);
  EXPECT_DOUBLE_EQ(step.waited_for_share.value(), 0.8);
}

// What one rank does not know, nobody claims.
TEST(TrafficStep, WhatARankDoesNotKnowIsAbsent) {
  std::vector<RankShare> ranks(2, ShareOf(2, 1));
  for (int r = 0; r < 2; ++r) {
    const int a = ranks[r].tally.IndexOf(0, "a");
    ranks[r].tally.Add(a, -1, -1,
                       {.blocked_ns = 2'000'000, .idle_ns = 1'000'000, .sender = 1 - r, .is_split = r == 0});
  }
  const TrafficStep step = SumOf(ranks, {0, 0}, 1);
  EXPECT_DOUBLE_EQ(step.blocked_ms, 2);
  EXPECT_FALSE(step.idle_ms.has_value());
  EXPECT_FALSE(step.exposed_ms.has_value());
  EXPECT_FALSE(step.hidden_share.has_value());
  EXPECT_FALSE(step.waited_for_rank.has_value());
}

TEST(TrafficStep, NobodyWaitedForNobody) {
  std::vector<RankShare> ranks(2, ShareOf(2, 1));
  const TrafficStep step = SumOf(ranks, {0, 0}, 1);
  EXPECT_DOUBLE_EQ(step.idle_ms.value(), 0);
  EXPECT_FALSE(step.waited_for_rank.has_value());
  EXPECT_FALSE(step.hidden_share.has_value());
}

}  // namespace
}  // namespace unipool
