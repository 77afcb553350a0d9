// What a walk prices beside products: copies of rows, and weights of experts that are brought.
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/step_walk.h"
#include "tests/parallel/walk_plan.h"

namespace unipool {
namespace {

void SetRowSeconds(StepPlan& plan, double seconds) {
  plan.times.units[static_cast<int>(WorkKind::kRows)] = seconds;
  plan.times.rates[static_cast<int>(WorkKind::kRows)].points = {{.amount = 1, .units_per_second = 1}};
}

// A rank alone has a row in one order: it is gathered and summed, in both lanes. Between ranks it is also
// copied into the order of the experts, and back.
TEST(StepWalk, RowsAreCopiedBetweenTheirOrders) {
  const auto seconds = [](int ranks) {
    StepPlan plan = PlanOf({.data = ranks}, {1}, 1, {});
    SetRowSeconds(plan, 0.5);
    return Seconds(plan, {.has_end = false});
  };
  EXPECT_NEAR(seconds(1), 4 * 0.5, 1e-9);
  EXPECT_NEAR(seconds(2), 8 * 0.5, 1e-9);
}

// Two stages share a pool. One microbatch has each slot for itself. Of two, stage 1's rows of time step 1
// come back without those of stage 0, and are copied with what experts kept.
TEST(StepWalk, RowsOfPartsOfSlotsAreCopied) {
  const auto seconds = [](int microbatches, double kept) {
    StepPlan plan = PlanOf({.stages = 2}, {1, 1}, microbatches, {});
    SetRowSeconds(plan, 1);
    plan.kept_rows = kept;
    return Seconds(plan, {.has_end = false});
  };
  EXPECT_NEAR(seconds(1, 3), seconds(1, 0), 1e-9);
  EXPECT_GT(seconds(2, 3), seconds(2, 0) + 1);
}

TEST(StepWalk, WeightsOfFewerExpertsAreBrought) {
  StepPlan plan = PlanOf({}, {1}, 1, {});  // a rank with 24 experts
  for (const WorkKind kind : {WorkKind::kExpertsForward, WorkKind::kExpertsInput, WorkKind::kExpertsWeights})
    plan.times.rates[static_cast<int>(kind)].points[0].expert_seconds = 2;
  LevelRows rows = Level(plan);
  const auto seconds = [&] { return WalkStep(plan, rows, {.has_end = false}).seconds; };
  EXPECT_NEAR(seconds(), 0, 1e-9) << "one row, one expert";
  rows.set_used_experts(0.5);
  EXPECT_NEAR(seconds(), 3 * 11 * 2, 1e-9);
  rows.set_used_experts(1);
  EXPECT_NEAR(seconds(), 3 * 23 * 2, 1e-9);
  EXPECT_NEAR(rows.UsedExperts(7), 1, 1e-9);
  rows.set_used_experts(0);
  EXPECT_NEAR(rows.UsedExperts(2), 1 - std::exp(-2), 1e-9);
}

}  // namespace
}  // namespace unipool
