#include "launcher/plan/placement_gain.h"

#include <algorithm>
#include <limits>

#include "launcher/config.h"
#include "launcher/plan/forecast_text.h"
#include "launcher/plan/forecast_walk.h"
#include "launcher/reports/readable_number.h"
#include "models/expert_replacer.h"
#include "models/settings.h"
#include "parallel/slot_placement.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// A rank's mean work on experts of a step with level rows.
double ExpertSeconds(const StepPlan& plan) {
  const LevelRows level(plan.rows, plan.experts_of);
  const StepTimes times = WalkStep(plan, level, OutlineWalkFor(plan.mesh, level));
  double sum = 0;
  for (const WorkSeconds& work : times.work) {
    for (const WorkKind kind :
         {WorkKind::kExpertsForward, WorkKind::kExpertsInput, WorkKind::kExpertsWeights})
      sum += work[static_cast<int>(kind)];
  }
  return sum / static_cast<double>(times.work.size());
}

int64_t FreeBytes(const Config& config, const MeshShape& mesh, const Cluster& cluster) {
  const MemoryConfig& memory = cluster.config.memory();
  if (memory.gigabytes() <= 0) return std::numeric_limits<int64_t>::max();
  int64_t most = 0;
  for (int stage = 0; stage < mesh.stages; ++stage)
    most = std::max(most, PlanMemory(config, mesh, RankOf(mesh, {.stage = stage}), 2).total());
  const double taken = static_cast<double>(most) * (1 + memory.slack()) + 1e9 * memory.fixed_gigabytes();
  return static_cast<int64_t>(std::max(0.0, 1e9 * memory.gigabytes() - taken));
}

ShadowCounts CountsOf(const Config& config, const StepPlan& plan, const std::vector<double>& shares) {
  const double rows = plan.rows * plan.mesh.data;
  return {.counts = shares,
          .schedule = plan.schedule,
          .span = plan.mesh.span,
          .copy_share = CopyShare(rows, DeviceOf(config) == Device::kCuda)};
}

Config WithoutShadows(const Config& config) {
  Config without = config;
  without.mutable_parallel()->set_shadow_experts(0);
  return without;
}

}  // namespace

ShadowCosts ShadowCostsOf(const Config& config, int ranks, const Cluster& cluster) {
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  const DType dtype = DTypeOfConfig(config);
  const int64_t elements = int64_t{3} * config.moe().width() * config.model().hidden();
  const int64_t bytes = elements * (SizeOf(dtype) + SizeOf(AccumulatorOf(dtype)));
  const bool crosses = cluster.description.NodeOf(mesh.pool() - 1) > 0;
  const WireDescription& wire = WireOf(cluster.description, crosses ? kInterNode : kIntraNode);
  return {.expert_seconds = ExpertSeconds(plan),
          .move_seconds = wire.Seconds(static_cast<double>(bytes)) + 2 * wire.latency_seconds,
          .shadow_bytes = bytes,
          .free_bytes = FreeBytes(WithoutShadows(config), mesh, cluster)};
}

std::vector<PlacedStep> PlacedSteps(const Config& config, int ranks, const Cluster& cluster,
                                    const std::vector<double>& shares) {
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  if (mesh.pool() == 1 || shares.empty()) return {};
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  const ShadowCounts counts = CountsOf(config, plan, shares);
  std::vector<PlacedStep> steps;
  const auto add = [&](const std::string& name, const ExpertPlacement& placement) -> PlacedStep& {
    return steps.emplace_back(
        PlacedStep{.name = name,
                   .imbalance = SlotImbalance(counts, placement),
                   .step = WalkDraws(plan, Draw(plan.rows, mesh, shares, placement)).times.seconds});
  };
  const ExpertPlacement blocks = ContiguousPlacement(config.moe().experts(), mesh.pool());
  const ExpertPlacement placed =
      PlaceBySlots(SlotLoadsOf(shares, config.moe().experts(), plan.schedule, mesh.span), blocks);
  add("consecutive blocks of experts", blocks);
  add("placed by these rows", placed);
  const ShadowCosts costs = ShadowCostsOf(config, ranks, cluster);
  const std::vector<ShadowPrice> prices = PriceShadows(counts, placed, costs);
  const ShadowPrice& chosen = ChooseShadows(prices, costs);
  steps.back().is_worth = &chosen == &prices[0];
  for (size_t i = 1; i < prices.size(); ++i) {
    const ShadowPrice& price = prices[i];
    PlacedStep& step =
        add(Format("and %d shadow%s a rank", price.shadows, price.shadows == 1 ? "" : "s"), price.placement);
    step.step += price.moving_seconds;
    step.shadows = price.shadows;
    step.moves = price.moves;
    step.bytes = price.bytes;
    step.is_worth = &price == &chosen;
  }
  return steps;
}

std::string PlacedStepsText(const std::vector<PlacedStep>& steps) {
  if (steps.empty()) return "";
  std::string text = Format("\nPlaces of experts, by these rows\n  %-30s %9s %10s %7s %11s\n", "",
                            "imbalance", "step", "moves", "memory");
  for (const PlacedStep& step : steps) {
    text += Format("  %-30s %9.3f %10s %7s %11s%s\n", step.name.c_str(), step.imbalance,
                   SecondsText(step.step).c_str(), std::to_string(step.moves).c_str(),
                   FormatBytes(step.bytes).c_str(), step.is_worth ? "  parallel.shadow_experts=auto" : "");
  }
  return text;
}

nlohmann::json PlacedStepsJson(const std::vector<PlacedStep>& steps) {
  nlohmann::json json = nlohmann::json::array();
  for (const PlacedStep& step : steps) {
    json.push_back({{"name", step.name},
                    {"imbalance", step.imbalance},
                    {"step_seconds", step.step},
                    {"shadows", step.shadows},
                    {"moves", step.moves},
                    {"bytes", step.bytes},
                    {"auto", step.is_worth}});
  }
  return json;
}

std::string TakeShadows(int ranks, Config& config) {
  ParallelConfig& parallel = *config.mutable_parallel();
  if (parallel.shadow_experts() != -1) return "";
  ValidateConfig(config, ranks);
  parallel.set_shadow_experts(0);
  const std::string setting = "parallel.shadow_experts=auto: ";
  const MeshShape mesh = MeshShapeOf(parallel, ranks);
  if (mesh.pool() == 1) return setting + "none, since each rank has the whole pool";
  const std::vector<double> shares = SharesIfCounted(config.run_dir(), config);
  if (shares.empty()) {
    return setting + "none, since " + config.run_dir() +
           " has counted no rows yet: they are taken as level. What a run has counted holds when it goes on";
  }
  if (parallel.emulate().empty())
    return setting +
           "none, since no wire is described (parallel.emulate); `unipool plan --counts` prices them";
  const Cluster cluster = LoadClusterFile(parallel.emulate());
  try {
    CheckForPlan(cluster, ranks);
  } catch (const UserError&) {
    return setting + "none, since " + cluster.path + " does not say how fast ranks compute";
  }
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  const ShadowCounts counts = CountsOf(config, plan, shares);
  const ShadowCosts costs = ShadowCostsOf(config, ranks, cluster);
  const std::vector<ShadowPrice> prices = PriceShadows(counts, PlacementFor(config, mesh, shares), costs);
  const ShadowPrice& chosen = ChooseShadows(prices, costs);
  parallel.set_shadow_experts(chosen.shadows);
  return setting +
         Format("%d a rank, by the rows that %s counted: imbalance %.3f instead of %.3f, %s of memory",
                chosen.shadows, config.run_dir().c_str(), chosen.imbalance, prices[0].imbalance,
                FormatBytes(chosen.bytes).c_str());
}

}  // namespace unipool
