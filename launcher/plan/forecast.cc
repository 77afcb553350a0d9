#include "launcher/plan/forecast.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "launcher/plan/forecast_walk.h"
#include "launcher/plan/shared_cores.h"
#include "models/settings.h"
#include "models/size_choice.h"
#include "models/stage_layers.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int kNumDraws = 5, kNumDrawsOfMany = 3, kManyRanks = 512;
constexpr uint64_t kFirstDraw = 1;
constexpr double kBandOfNoise = 1.645;  // standard deviations from the median to p95

ClusterDescription WithFreeWires(ClusterDescription cluster) {
  cluster.intra_node = cluster.inter_node = {};
  cluster.overlap = 1;
  return cluster;
}

double ComputeOf(const StepTimes& times) {
  double sum = 0;
  for (const WalkedRank& rank : times.walked) sum += rank.compute;
  return sum / static_cast<double>(times.walked.size());
}

// Rows and experts shared out to all ranks alike, in fractions where they do not divide: what a rank has on
// the mean. Other ranks have more, and the step waits for them.
LevelRows EvenRows(const StepPlan& plan) {
  return LevelRows(plan.rows, std::vector<int>(plan.experts_of.size(), 1));
}

StepPlan WithEvenExperts(StepPlan plan) {
  const int experts = std::accumulate(plan.experts_of.begin(), plan.experts_of.end(), 0);
  const auto ranks = static_cast<double>(plan.experts_of.size());
  const auto mean = static_cast<int>(std::lround(std::max(1.0, experts / ranks)));
  std::fill(plan.experts_of.begin(), plan.experts_of.end(), mean);
  return plan;
}

Breakdown BreakdownOf(const StepTimes& times) {
  Breakdown breakdown;
  const auto share = 1 / static_cast<double>(times.walked.size());
  for (size_t i = 0; i < times.walked.size(); ++i) {
    const WalkedRank& rank = times.walked[i];
    for (int kind = 0; kind < kNumWorkKinds; ++kind) breakdown.work[kind] += share * times.work[i][kind];
    breakdown.idle += share * rank.idle;
    breakdown.exposed += share * rank.exposed;
    breakdown.after_last += share * (times.seconds - rank.now);
  }
  return breakdown;
}

// Seconds behind the slots that are no update of parameters.
double SumSeconds(const StepTimes& times) {
  double update = 0;
  for (const WorkSeconds& work : times.work)
    update = std::max(update, work[static_cast<int>(WorkKind::kOptimizer)]);
  return std::max(0.0, times.seconds - times.slot_seconds - update);
}

// Time of work at the speed of its largest pieces, without what each piece costs by itself.
double AtBestSpeed(const StepPlan& plan, const StepTimes& times) {
  double best = 0;
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    const WorkRate& rate = plan.times.rates[kind];
    double sum = 0;
    for (const WorkSeconds& work : times.work) sum += work[kind];
    sum /= static_cast<double>(times.work.size());
    double highest = 0;
    for (const WorkRate::Point& point : rate.points) highest = std::max(highest, point.units_per_second);
    const auto kind_of = static_cast<WorkKind>(kind);
    const double amount = kind_of == WorkKind::kDenseForward || kind_of == WorkKind::kDenseBackward ||
                                  kind_of == WorkKind::kHead
                              ? plan.tokens
                              : plan.rows;
    const double experts = plan.experts_of.empty() ? 1 : plan.experts_of[0];
    const WorkPart used{.experts = experts * (1 - std::exp(-amount / std::max(1.0, experts)))};
    const double seconds = plan.times.Seconds(kind_of, amount, used);
    const double at_best = highest > 0 ? amount * plan.times.units[kind] / highest : 0;
    best += seconds > 0 && kind_of != WorkKind::kOptimizer ? sum * at_best / seconds : sum;
  }
  return best;
}

StageMemory MemoryOf(const Config& config, const MeshShape& mesh, int stage, double slack) {
  StageMemory memory{.stage = stage, .layers = LayersPerStage(config, mesh)[stage]};
  const auto bytes = [&](double imbalance) {
    const int rank = RankOf(mesh, {.replica = 0, .stage = stage, .data = 0});  // has most experts
    const double planned = static_cast<double>(PlanMemory(config, mesh, rank, imbalance).total());
    return static_cast<int64_t>(planned * (1 + slack));
  };
  memory.level = bytes(kEvenRouting);
  memory.twice = bytes(2);
  memory.worst = bytes(kAllRowsHere);
  return memory;
}

std::vector<Loss> LossesOf(const Config& config, const StepPlan& plan, const StepTimes& full,
                           const RoutedRows& rows) {
  StepPlan free = plan;
  free.cluster = WithFreeWires(plan.cluster);
  const WalkOptions options = OutlineWalkFor(plan.mesh, rows);
  const StepTimes free_wire = WalkStep(free, rows, options);
  const LevelRows level(plan.rows, plan.experts_of);
  const WalkOptions level_options = OutlineWalkFor(plan.mesh, level);
  const StepTimes level_free = WalkStep(free, level, level_options);
  const StepTimes even_free = WalkStep(WithEvenExperts(free), EvenRows(plan), level_options);
  const double compute = ComputeOf(even_free), sums = SumSeconds(full);
  std::vector<Loss> losses;
  const auto add = [&](const char* name, double seconds, const std::string& setting) {
    if (seconds > 1e-9 * full.seconds) losses.push_back({name, seconds, setting});
  };
  add("wire of rows and hidden states", full.seconds - free_wire.seconds - sums,
      plan.lanes == LaneOrder::kSequential
          ? "parallel.lanes=INTERLEAVED"
          : "parallel.stages or parallel.pool_replicas, so that a pool spans fewer nodes; train.micro_batch");
  add("sums of gradients over ranks", sums,
      "train.global_batch (more microbatches a step); parallel.pool_replicas");
  add("uneven routing", free_wire.seconds - level_free.seconds,
      config.parallel().placement() == ParallelConfig::CONTIGUOUS
          ? "parallel.placement=SLOT_AWARE"
          : "parallel.replace_every; moe.balance_coeff; fewer ranks a pool (parallel.pool_replicas)");
  add("experts that the ranks of a pool cannot share out evenly", level_free.seconds - even_free.seconds,
      "moe.experts or parallel.pool_replicas, so that each rank has as many");
  add("pipeline and uneven stages", even_free.seconds - compute,
      config.parallel().experts() == ParallelConfig::PER_STAGE
          ? "parallel.experts=POOL"
          : "train.micro_batch smaller (more microbatches); parallel.stages; parallel.head");
  add("small pieces of work", compute - AtBestSpeed(plan, even_free),
      "train.micro_batch larger; fewer ranks");
  std::sort(losses.begin(), losses.end(), [](const Loss& a, const Loss& b) { return a.seconds > b.seconds; });
  return losses;
}

std::vector<std::string> NotesOf(const Config& config, const Cluster& cluster) {
  std::vector<std::string> notes;
  const ProcessorConfig& processor = cluster.config.processor();
  const int hidden = config.model().hidden(), width = config.moe().width();
  if ((processor.hidden() > 0 && processor.hidden() != hidden) ||
      (processor.width() > 0 && processor.width() != width)) {
    notes.push_back(
        Format("rates of work are those of model.hidden %d and moe.width %d, and the model has %d "
               "and %d: calibrate with these settings",
               processor.hidden(), processor.width(), hidden, width));
  }
  if (const std::string& with = processor.measured_with(); !with.empty() && with != ComputesWith(config)) {
    notes.push_back(
        Format("rates of work were measured with %s, and the settings compute with %s: calibrate "
               "with these settings",
               with.c_str(), ComputesWith(config).c_str()));
  }
  if (config.moe().balance_scope() == BalanceScope::MICROBATCH)
    notes.push_back("moe.balance_scope MICROBATCH: the exchange of shares after each microbatch is left out");
  if (WeightGradSlots(config) > 1)
    notes.push_back(
        "train.weight_grad_slots: weight gradients are planned slot by slot, and run several slots at once");
  if (config.device() == DeviceType::CUDA && config.parallel().head() == ParallelConfig::SPREAD)
    notes.push_back("parallel.head=SPREAD: no GPU was measured with it");
  return notes;
}

}  // namespace

std::string ComputesWith(const Config& config) {
  const bool is_bf16 = TypesOfConfig(config).products == DType::kBF16;
  return DeviceType::Value_Name(config.device()) + (is_bf16 ? " BF16" : " FP32");
}

namespace {

RowsFound FindDraws(const RowsWanted& wanted, const Config& config, const MeshShape& mesh, double rows) {
  RowsFound found;
  std::vector<double> shares;
  if (!wanted.counts.empty()) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(wanted.counts, ignored)) {
      throw UserError(wanted.name + ": is no folder; give the folder of a run");
    }
    found.tag = Tag::RECORDED;
    // Where a rank has the whole pool no row travels, and nothing is recorded.
    if (mesh.pool() > 1 && std::filesystem::is_directory(wanted.counts + "/traffic", ignored)) {
      const RecordedRun run = ReadRecordedRun(wanted.counts, {});
      if (!run.RecordedSteps().empty()) {
        auto recorded = std::make_unique<RecordedRows>(run, config, mesh, wanted.name);
        found.source = Format("step %d of %s", recorded->step(), wanted.counts.c_str());
        found.step = recorded->step();
        found.draws.push_back(std::move(recorded));
        found.shares = SharesIfCounted(wanted.counts, config);
        return found;
      }
    }
    shares = CountedShares(wanted.counts, config, wanted.name);
    found.source = "choices that " + wanted.counts + " counted";
  } else if (!wanted.shares.empty()) {
    shares = wanted.shares;
    found.tag = Tag::RECORDED;
    found.source = "rows of experts that the run recorded";
  } else if (wanted.imbalance == Imbalance::kLevel) {
    std::vector<int> experts_of;
    for (int rank = 0; rank < mesh.pool(); ++rank) {
      experts_of.push_back(static_cast<int>(EvenPartition(config.moe().experts(), mesh.pool(), rank).size()));
    }
    found.draws.push_back(std::make_unique<LevelRows>(rows, experts_of));
    found.source = "level: every expert gets the same";
    return found;
  } else {
    shares = AssumedShares(config, wanted.imbalance);
    found.source =
        wanted.imbalance == Imbalance::kEarly ? "uneven as early in training" : "uneven as late in training";
  }
  const ExpertPlacement placement = PlacementFor(config, mesh, shares);
  found.draws = Draw(rows, mesh, shares, placement);
  found.shares = std::move(shares);
  return found;
}

}  // namespace

RowsFound FindRows(const RowsWanted& wanted, const Config& config, const MeshShape& mesh, double rows) {
  RowsFound found = FindDraws(wanted, config, mesh, rows);
  for (const auto& draw : found.draws) draw->set_used_experts(wanted.used_experts);
  return found;
}

std::vector<std::unique_ptr<RoutedRows>> Draw(double rows, const MeshShape& mesh,
                                              const std::vector<double>& shares,
                                              const ExpertPlacement& placement) {
  std::vector<std::unique_ptr<RoutedRows>> draws;
  const int num_draws = mesh.world() > kManyRanks ? kNumDrawsOfMany : kNumDraws;
  for (int draw = 0; draw < num_draws; ++draw) {
    draws.push_back(std::make_unique<DrawnRows>(rows, mesh.data, shares, placement, kFirstDraw + draw));
  }
  return draws;
}

Forecast MakeForecast(const Config& config, int ranks, const Cluster& cluster, const RowsFound& rows) {
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  Forecast forecast;
  forecast.layout = {.mesh = mesh,
                     .layers_per_stage = plan.schedule.layers_per_stage(),
                     .is_head_spread = plan.schedule.head_place() == HeadPlace::kSpread,
                     .microbatches = plan.schedule.num_microbatches()};
  const DrawnSteps drawn = WalkDraws(plan, rows.draws);
  const size_t median = drawn.median;
  const StepTimes& full = drawn.times;
  const double noise = kBandOfNoise * cluster.config.noise();
  forecast.step = full.seconds;
  forecast.step_low = drawn.low * (1 - noise);
  forecast.step_high = drawn.high * (1 + noise);
  const LevelRows level(plan.rows, plan.experts_of);
  StepPlan free = plan;
  free.cluster = WithFreeWires(plan.cluster);
  const StepTimes even = WalkStep(WithEvenExperts(free), EvenRows(plan), OutlineWalkFor(mesh, level));
  forecast.ideal = ComputeOf(even);
  forecast.tokens_per_second =
      double{1} * config.train().global_batch() * config.model().seq_length() / forecast.step;
  forecast.breakdown = BreakdownOf(full);
  forecast.losses = LossesOf(config, plan, full, *rows.draws[median]);
  for (const WireKind kind : {kIntraNode, kInterNode}) forecast.bytes[kind] = full.bytes[kind];
  for (const WalkedRank& rank : full.walked)
    forecast.rank_bytes.push_back(rank.bytes[kIntraNode] + rank.bytes[kInterNode]);
  const auto room = std::llround(1e9 * cluster.config.memory().gigabytes());
  const Config resolved = WithSizesFor(WithChoices(config, mesh), mesh, room);
  for (int stage = 0; stage < mesh.stages; ++stage) {
    forecast.memory.push_back(MemoryOf(resolved, mesh, stage, cluster.config.memory().slack()));
  }
  forecast.fixed_bytes = std::llround(1e9 * cluster.config.memory().fixed_gigabytes());
  forecast.notes = NotesOf(config, cluster);
  forecast.not_planned = SharedCoresText(cluster.config, ranks);
  forecast.rows_source = rows.source;
  forecast.rows_tag = rows.tag;
  return forecast;
}

std::vector<Sensitivity> Sensitivities(const Config& config, int ranks, const Cluster& cluster,
                                       const RowsFound& rows) {
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  const LevelRows level(plan.rows, plan.experts_of);
  const RoutedRows& draw = mesh.world() > kManyRanks ? static_cast<const RoutedRows&>(level) : *rows.draws[0];
  const WalkOptions options = OutlineWalkFor(mesh, draw);
  const double step = WalkStep(plan, draw, options).seconds;
  constexpr double kFaster = 1.1;
  std::vector<Sensitivity> result;
  const auto add = [&](const std::string& rate, auto change) {
    StepPlan other = plan;
    change(other);
    result.push_back({rate, step - WalkStep(other, draw, options).seconds});
  };
  add("intra_node.gigabytes_per_second",
      [](StepPlan& p) { p.cluster.intra_node.bytes_per_second *= kFaster; });
  add("inter_node.gigabytes_per_second",
      [](StepPlan& p) { p.cluster.inter_node.bytes_per_second *= kFaster; });
  add("latencies", [](StepPlan& p) {
    p.cluster.intra_node.latency_seconds /= kFaster;
    p.cluster.inter_node.latency_seconds /= kFaster;
  });
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    add(NameOf(static_cast<WorkKind>(kind)), [kind](StepPlan& p) {
      p.times.rates[kind].fixed_seconds /= kFaster;
      for (WorkRate::Point& point : p.times.rates[kind].points) point.units_per_second *= kFaster;
    });
  }
  std::sort(result.begin(), result.end(),
            [](const Sensitivity& a, const Sensitivity& b) { return a.seconds > b.seconds; });
  return result;
}

}  // namespace unipool
