#include "parallel/work_times.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(WorkTimes, RatesAreStraightInTheLogarithm) {
  const WorkRate rate{.fixed_seconds = 0, .points = {{16, 2}, {64, 4}, {256, 4}}};
  EXPECT_EQ(rate.UnitsPerSecond(1), 2);
  EXPECT_EQ(rate.UnitsPerSecond(16), 2);
  EXPECT_DOUBLE_EQ(rate.UnitsPerSecond(32), 3);
  EXPECT_EQ(rate.UnitsPerSecond(64), 4);
  EXPECT_EQ(rate.UnitsPerSecond(1e9), 4);
}

TEST(WorkTimes, PartsAddUpToThePiece) {
  WorkTimes times;
  times.head_chunks = 7;
  for (const WorkKind kind : {WorkKind::kHead, WorkKind::kExpertsWeights}) {
    times.units[static_cast<int>(kind)] = 6;
    times.rates[static_cast<int>(kind)] = {.fixed_seconds = 0.5, .points = {{1, 2}}};
    EXPECT_DOUBLE_EQ(times.Seconds(kind, 10), 0.5 + 30);
    EXPECT_EQ(times.Seconds(kind, 0), 0);
  }
  double head = 0;
  for (int part = 0; part < 3; ++part)
    head += times.Seconds(WorkKind::kHead, 10, {.begin = part, .end = part + 1, .num_parts = 3});
  EXPECT_DOUBLE_EQ(head, 30.5);
  EXPECT_DOUBLE_EQ(times.Seconds(WorkKind::kHead, 10, {.begin = 0, .end = 1, .num_parts = 3}), 30.5 * 3 / 7);
  const auto weights = [&](int part) {
    return times.Seconds(WorkKind::kExpertsWeights, 10, {.begin = part, .end = part + 1, .num_parts = 2});
  };
  EXPECT_DOUBLE_EQ(weights(0), 2 * weights(1));
  EXPECT_DOUBLE_EQ(weights(0) + weights(1), 30.5);
  EXPECT_DOUBLE_EQ(times.Seconds(WorkKind::kHead, 10, {.share = 0.25}), 30.5 / 4);
}

TEST(WorkTimes, EachFurtherExpertBringsItsWeights) {
  WorkTimes times;
  times.units[static_cast<int>(WorkKind::kExpertsWeights)] = 6;
  times.rates[static_cast<int>(WorkKind::kExpertsWeights)].points = {
      {.amount = 10, .units_per_second = 2, .expert_seconds = 4},
      {.amount = 40, .units_per_second = 2, .expert_seconds = 8}};
  const auto seconds = [&](double rows, double experts) {
    return times.Seconds(WorkKind::kExpertsWeights, rows, {.experts = experts});
  };
  EXPECT_DOUBLE_EQ(seconds(10, 1), 30);
  EXPECT_DOUBLE_EQ(seconds(10, 3), 30 + 2 * 4);
  EXPECT_DOUBLE_EQ(seconds(20, 3), 60 + 2 * 6) << "straight in the logarithm of rows";
  EXPECT_DOUBLE_EQ(seconds(10, 0.5), 30) << "where rows are few by chance";
  EXPECT_EQ(seconds(0, 3), 0);
  const auto part = [&](int index) {
    return times.Seconds(WorkKind::kExpertsWeights, 10,
                         {.begin = index, .end = index + 1, .num_parts = 2, .experts = 3});
  };
  EXPECT_DOUBLE_EQ(part(0) + part(1), 38);
}

}  // namespace
}  // namespace unipool
