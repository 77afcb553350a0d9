#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "parallel/step_walk.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {

double StepPlan::HeadTokens(int stage) const {
  return static_cast<double>(EvenPartition(std::llround(tokens), schedule.num_stages(), stage).size());
}

LevelRows::LevelRows(double rows, std::vector<int> experts_of) {
  const double experts = std::accumulate(experts_of.begin(), experts_of.end(), 0);
  for (const int own : experts_of) shares_.push_back(rows * own / experts);
}

void LevelRows::Fill(int, int, int, int, std::span<double> owners) const {
  std::copy(shares_.begin(), shares_.end(), owners.begin());
}

double WalkLongStep(const StepPlan& plan, const RoutedRows& rows, const WalkOptions& options) {
  CHECK(rows.all_are_alike());
  const int all = plan.schedule.num_microbatches(), walked = 2 * plan.schedule.num_stages() + 2;
  if (all <= walked + 1) return WalkStep(plan, rows, options).seconds;
  const auto schedule = [&](int microbatches) {
    return SlotSchedule(plan.schedule.layers_per_stage(), microbatches, plan.schedule.forward_only(),
                        plan.schedule.head_place());
  };
  StepPlan few = plan;
  few.schedule = schedule(walked);
  const double seconds = WalkStep(few, rows, options).seconds;
  few.schedule = schedule(walked + 1);
  return seconds + (all - walked) * (WalkStep(few, rows, options).seconds - seconds);
}

}  // namespace unipool
