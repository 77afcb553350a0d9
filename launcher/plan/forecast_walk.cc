#include "launcher/plan/forecast_walk.h"

#include <algorithm>

namespace unipool {
namespace {

// Of a walk: 25 ns each.
constexpr double kMostBlocks = 16e6;
// Counts, and rows there and back in both lanes.
constexpr double kExchangesOfASlot = 5;

double NumBlocks(const StepPlan& plan, int ranks) {
  const double slots = double{1} * plan.schedule.num_times() * plan.schedule.slots_per_time();
  return slots * kExchangesOfASlot * ranks * (plan.mesh.pool() - 1);
}

bool WalksAllBlocks(const StepPlan& plan) {
  const double sums = 2.0 * plan.mesh.world() * plan.mesh.world();
  return plan.mesh.world() <= kMostBlockRanks || NumBlocks(plan, plan.mesh.world()) + sums <= kMostBlocks;
}

WalkOptions ReplicaWalkFor(const StepPlan& plan) {
  const int of_replica = plan.mesh.world() / plan.mesh.replicas;
  const bool has_few = NumBlocks(plan, of_replica) <= kMostBlocks;
  return {.detail = has_few ? WalkDetail::kBlocks : WalkDetail::kTotals, .ranks = WalkRanks::kOneReplica};
}

// Adds `seconds` to what each rank waits for the wire in its slots; of less than none no more than all wait.
void AddExposed(StepTimes& times, double seconds) {
  for (const WalkedRank& rank : times.walked) seconds = std::max(seconds, -rank.exposed);
  for (WalkedRank& rank : times.walked) {
    rank.exposed += seconds;
    rank.now += seconds;
  }
  times.slot_seconds += seconds;
  times.seconds += seconds;
}

}  // namespace

WalkOptions StepWalkFor(const StepPlan& plan, const RoutedRows& rows) {
  if (WalksAllBlocks(plan)) return {};
  if (rows.all_are_alike()) return ReplicaWalkFor(plan);
  return {.detail = WalkDetail::kTotals};
}

StepTimes WalkForecast(const StepPlan& plan, const RoutedRows& rows) {
  const WalkOptions options = StepWalkFor(plan, rows);
  StepTimes times = WalkStep(plan, rows, options);
  WalkOptions replica = ReplicaWalkFor(plan);
  if (options.detail == WalkDetail::kBlocks || rows.all_are_alike() || replica.detail == WalkDetail::kTotals)
    return times;
  replica.has_end = false;
  const double blocks = WalkStep(plan, rows, replica).seconds;
  replica.detail = WalkDetail::kTotals;
  AddExposed(times, times.slot_seconds * (blocks / WalkStep(plan, rows, replica).seconds - 1));
  return times;
}

DrawnSteps WalkDraws(const StepPlan& plan, const std::vector<std::unique_ptr<RoutedRows>>& draws) {
  std::vector<std::pair<double, size_t>> steps;
  for (size_t i = 0; i < draws.size(); ++i)
    steps.emplace_back(WalkStep(plan, *draws[i], OutlineWalkFor(plan.mesh, *draws[i])).seconds, i);
  std::sort(steps.begin(), steps.end());
  const auto [outline, median] = steps[steps.size() / 2];
  DrawnSteps drawn{.median = median, .times = WalkForecast(plan, *draws[median])};
  drawn.low = steps.front().first * drawn.times.seconds / outline;
  drawn.high = steps.back().first * drawn.times.seconds / outline;
  return drawn;
}

WalkOptions OutlineWalkFor(const MeshShape& mesh, const RoutedRows& rows) {
  if (mesh.world() <= kMostBlockRanks) return {};
  return {.detail = WalkDetail::kTotals,
          .ranks = rows.all_are_alike() ? WalkRanks::kOnePerStage : WalkRanks::kAll};
}

}  // namespace unipool
