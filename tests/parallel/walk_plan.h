// Small steps whose costs are written by hand, for walks.
#pragma once

#include <utility>
#include <vector>

#include "parallel/step_walk.h"
#include "runtime/range.h"

namespace unipool {

// Times in seconds of one token's or row's forward.
struct Costs {
  double dense = 0, expert = 0, head = 0;
};

inline WorkTimes TimesOf(const Costs& costs, int head_chunks = 1) {
  WorkTimes times;
  times.head_chunks = head_chunks;
  const auto set = [&](WorkKind kind, double seconds) {
    times.units[static_cast<int>(kind)] = seconds;
    times.rates[static_cast<int>(kind)].points = {{.amount = 1, .units_per_second = 1}};
  };
  set(WorkKind::kDenseForward, costs.dense);
  set(WorkKind::kDenseBackward, 2 * costs.dense);
  set(WorkKind::kExpertsForward, costs.expert);
  set(WorkKind::kExpertsInput, costs.expert);
  set(WorkKind::kExpertsWeights, costs.expert);
  set(WorkKind::kHead, 3 * costs.head);
  return times;
}

inline StepPlan PlanOf(const MeshShape& mesh, std::vector<int> layers, int microbatches, const Costs& costs) {
  StepPlan plan{.mesh = mesh,
                .schedule = SlotSchedule(std::move(layers), microbatches),
                .cluster = {},
                .times = TimesOf(costs),
                .tokens = 1,
                .rows = 1,
                .row_bytes = 100,
                .hidden_bytes = 40,
                .experts_of = {},
                .end = {}};
  constexpr int kExperts = 24;
  for (int rank = 0; rank < mesh.pool(); ++rank)
    plan.experts_of.push_back(static_cast<int>(EvenPartition(kExperts, mesh.pool(), rank).size()));
  plan.end.dense_elements.assign(mesh.stages, 1000);
  plan.end.gate_up_elements.assign(mesh.pool(), 200);
  plan.end.down_elements.assign(mesh.pool(), 100);
  return plan;
}

inline LevelRows Level(const StepPlan& plan) {
  return LevelRows(plan.rows, plan.experts_of);
}

inline double Seconds(const StepPlan& plan, const WalkOptions& options = {}) {
  return WalkStep(plan, Level(plan), options).seconds;
}

}  // namespace unipool
