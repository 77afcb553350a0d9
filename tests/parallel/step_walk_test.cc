// The walk with costs at its limits, where formulas give the step's time, and that worse machines and rows
// never make it shorter. What it says of whole runs: tests/launcher/run_plan_test.py.
#include "parallel/step_walk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "parallel/stage_balance.h"
#include "tests/fresh_seed.h"
#include "tests/parallel/walk_plan.h"

namespace unipool {
namespace {

// All ranks, block by block, on a free wire: what the schedule's own prediction is, and the formulas of
// parallel/SCHEDULE.md, less the weight gradients that fill waits while the pipeline drains.
TEST(StepWalk, FreeWireAndLevelRowsArePredicted) {
  const Costs costs{.dense = 1.25, .expert = 3.5};
  for (const PoolSpan span : {PoolSpan::kReplica, PoolSpan::kStage}) {
    for (const LaneOrder lanes : {LaneOrder::kInterleaved, LaneOrder::kSequential}) {
      for (const int stages : {1, 2, 3, 4}) {
        for (const int microbatches : {1, 2, 5, 8}) {
          for (const int n : {1, 2, 3}) {
            const MeshShape mesh{.stages = stages, .data = 2, .span = span};
            StepPlan plan = PlanOf(mesh, std::vector<int>(stages, n), microbatches, costs);
            plan.lanes = lanes;
            const StageWork work{.dense = costs.dense, .expert = costs.expert};
            const double a = 3 * n * costs.dense, e = 3 * n * costs.expert, times = microbatches + stages - 1;
            const double formula = times * a + (span == PoolSpan::kReplica ? microbatches : times) * e;
            const double walked = Seconds(plan);
            SCOPED_TRACE(testing::Message() << stages << " stages, " << microbatches << " microbatches, " << n
                                            << " layers, span " << static_cast<int>(span) << ", lanes "
                                            << static_cast<int>(lanes));
            EXPECT_LE(walked, formula * (1 + 1e-12));
            EXPECT_GE(walked, formula - (stages - 1) * costs.expert / 3 - 1e-9);
            if (span == PoolSpan::kReplica && microbatches > 1) {
              EXPECT_NEAR(walked, formula, 1e-9);
            }
            if (lanes == LaneOrder::kInterleaved) {
              EXPECT_NEAR(PredictStepTime(plan.schedule, work, span), walked, 1e-9 * walked);
            }
          }
        }
      }
    }
  }
}

// Stages that differ, with a head: one rank of each stage in sums tells what all ranks in blocks do.
TEST(StepWalk, UnevenStagesArePredicted) {
  const Costs costs{.dense = 1, .expert = 3, .head = 2};
  for (const std::vector<int>& layers : {std::vector<int>{3, 2}, {4, 4, 2}, {3, 3, 3, 1}}) {
    for (const PoolSpan span : {PoolSpan::kReplica, PoolSpan::kStage}) {
      const MeshShape mesh{.stages = static_cast<int>(layers.size()), .data = 2, .span = span};
      StepPlan plan = PlanOf(mesh, layers, 32, costs);
      plan.times = TimesOf(costs, 12);
      const StageWork work{.dense = 1, .expert = 3, .head = 2, .head_chunks = 12};
      const double walked = Seconds(plan);
      EXPECT_NEAR(PredictStepTime(plan.schedule, work, span), walked, 1e-9 * walked) << layers.size();
    }
  }
}

StepPlan WithSpreadHead(StepPlan plan) {
  plan.schedule = SlotSchedule(plan.schedule.layers_per_stage(), plan.schedule.num_microbatches(), false,
                               HeadPlace::kSpread);
  return plan;
}

TEST(StepWalk, SpreadHeadOnAFreeWireAddsItsShare) {
  constexpr int kTokens = 12;
  const Costs costs{.dense = 1.25, .expert = 3.5, .head = 4};
  constexpr int kMicrobatches = 5;
  for (const LaneOrder lanes : {LaneOrder::kInterleaved, LaneOrder::kSequential}) {
    for (const int stages : {2, 3, 4}) {
      for (const int n : {1, 2}) {
        const MeshShape mesh{.stages = stages, .data = 2};
        StepPlan plan = WithSpreadHead(PlanOf(mesh, std::vector<int>(stages, n), kMicrobatches, costs));
        plan.lanes = lanes;
        plan.tokens = plan.rows = kTokens;
        const double expected = 3 * kTokens *
                                ((kMicrobatches + stages - 1) * n * costs.dense +
                                 kMicrobatches * (n * costs.expert + costs.head / stages));
        EXPECT_NEAR(Seconds(plan), expected, 1e-9 * expected) << stages << " stages, " << n << " layers";
        EXPECT_NEAR(WalkLongStep(plan, Level(plan)), expected, 1e-9 * expected);
      }
    }
  }
}

// Rows of the head leave the last stage and their gradients come back: for each microbatch and pipeline all
// but the last stage's share, twice. At the end all ranks sum the gradient of its weight.
TEST(StepWalk, SpreadHeadHasItsBytes) {
  StepPlan plain = PlanOf({.stages = 4, .data = 2}, {1, 1, 1, 1}, 3, {.dense = 1, .expert = 1, .head = 1});
  plain.tokens = 8;
  StepPlan spread = WithSpreadHead(plain);
  spread.end.head_elements = 800;
  const auto bytes = [](const StepPlan& plan, bool has_end, WalkDetail detail) {
    return WalkStep(plan, Level(plan), {.detail = detail, .has_end = has_end}).bytes[kIntraNode];
  };
  for (const WalkDetail detail : {WalkDetail::kBlocks, WalkDetail::kTotals}) {
    const double slots = bytes(spread, false, detail) - bytes(plain, false, detail);
    EXPECT_NEAR(slots, 2 * 3 * 2 * plain.hidden_bytes * 3 / 4, 1e-6);
    const double end = bytes(spread, true, detail) - bytes(plain, true, detail) - slots;
    EXPECT_NEAR(end, 8 * 2 * 700 * 4, 1e-6);
  }
}

// The gradients of the rows leave when all but the weight's gradient of the last chunk is done. On a slow
// wire a step is longer by what less is left to do meanwhile: of 1800 seconds a sixth with two chunks, a
// third with one.
TEST(StepWalk, LastChunkCoversTheWayBack) {
  StepPlan plan = WithSpreadHead(PlanOf({.stages = 2, .data = 1}, {1, 1}, 1, {.head = 300}));
  plan.tokens = 4;
  plan.cluster.intra_node = {.latency_seconds = 0, .bytes_per_second = 1};
  plan.hidden_bytes = 1600;
  const auto seconds = [&](int64_t chunk) {
    plan.head_chunk = chunk;
    return Seconds(plan, {.has_end = false});
  };
  EXPECT_NEAR(seconds(1) - seconds(2), 300, 1e-6);
  EXPECT_EQ(seconds(2), seconds(100));
}

TEST(StepWalk, OneRankHasNoWire) {
  StepPlan plan = PlanOf({}, {3}, 4, {.dense = 1, .expert = 2, .head = 0.5});
  plan.cluster.intra_node = {.latency_seconds = 1, .bytes_per_second = 1};
  plan.cluster.inter_node = plan.cluster.intra_node;
  EXPECT_NEAR(Seconds(plan), 4 * (3 * 3 * 3 + 3 * 0.5), 1e-9);
  const StepTimes times = WalkStep(plan, Level(plan));
  EXPECT_EQ(times.bytes[kIntraNode] + times.bytes[kInterNode], 0);
  EXPECT_EQ(times.walked[0].idle + times.walked[0].exposed, 0);
}

// Nothing is computed: what is left is the wire. Two ranks, one stage, one layer, one microbatch: counts,
// dispatch and combine forward, dispatch and combine backward follow each other.
TEST(StepWalk, WithoutComputeTheWireIsLeft) {
  StepPlan plan = PlanOf({.data = 2}, {1}, 1, {});
  plan.cluster.intra_node = {.latency_seconds = 0.25, .bytes_per_second = 50};
  const double rows = 0.5 * 100 / 50, counts = 12 * 4 / 50.0;  // half of the rows, 12 of the experts
  const StepTimes times = WalkStep(plan, Level(plan), {.has_end = false});
  EXPECT_NEAR(times.seconds, 5 * 0.25 + counts + 4 * rows, 1e-9);
  EXPECT_NEAR(times.bytes[kIntraNode], 2 * (12 * 4 + 4 * 50), 1e-9);
  // A latency beside which bytes take no time counts exchanges alone.
  plan.cluster.intra_node = {.latency_seconds = 1000, .bytes_per_second = 0};
  EXPECT_NEAR(Seconds(plan, {.has_end = false}), 5 * 1000, 1e-9);
}

// Gradients of 1000 elements on 2 ranks: half to the other and half back, and the numbers of the step.
TEST(StepWalk, SumsFollowTheSlots) {
  StepPlan plan = PlanOf({.data = 2}, {1}, 1, {});
  plan.end.step_numbers = 10;
  const StepTimes with = WalkStep(plan, Level(plan)),
                  without = WalkStep(plan, Level(plan), {.has_end = false});
  EXPECT_NEAR(with.bytes[kIntraNode] - without.bytes[kIntraNode], 2 * (2 * 500 * 4 + 2 * 5 * 8), 1e-9);
  // Two copies of the pool: the experts' gradients too.
  StepPlan copies = PlanOf({.replicas = 2}, {1}, 1, {});
  EXPECT_NEAR(WalkStep(copies, Level(copies)).bytes[kIntraNode], 2 * (2 * 500 * 4 + 2 * 150 * 4), 1e-9);
}

StepPlan RandomPlan(std::mt19937& random) {
  std::uniform_real_distribution<double> uniform(0.1, 1);
  const int stages = 1 + static_cast<int>(random() % 3);
  const MeshShape mesh{.replicas = 1 + static_cast<int>(random() % 2),
                       .stages = stages,
                       .data = 1 + static_cast<int>(random() % 3),
                       .span = random() % 4 == 0 ? PoolSpan::kStage : PoolSpan::kReplica};
  std::vector<int> layers;
  for (int s = 0; s < stages; ++s) layers.push_back(1 + static_cast<int>(random() % 3));
  StepPlan plan = PlanOf(mesh, layers, 1 + static_cast<int>(random() % 6),
                         {.dense = uniform(random), .expert = 3 * uniform(random), .head = uniform(random)});
  plan.lanes = random() % 3 == 0 ? LaneOrder::kSequential : LaneOrder::kInterleaved;
  plan.cluster.ranks_per_node = 2;
  plan.cluster.intra_node = {.latency_seconds = 0.01 * uniform(random), .bytes_per_second = 500};
  plan.cluster.inter_node = {.latency_seconds = 0.05 * uniform(random), .bytes_per_second = 60};
  plan.end.step_numbers = 50;
  return plan;
}

TEST(StepWalk, FasterMachinesAreNeverSlower) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  int changed = 0;
  for (int i = 0; i < 60; ++i) {
    const StepPlan plan = RandomPlan(random);
    const double seconds = Seconds(plan);
    StepPlan faster = plan;
    faster.cluster.inter_node.bytes_per_second *= 2;
    faster.cluster.intra_node.bytes_per_second *= 2;
    // A link serves blocks in the order of sending, so a faster one may put two blocks in another order.
    EXPECT_LE(Seconds(faster), seconds * 1.02);
    changed += Seconds(faster) < seconds;
    StepPlan contended = plan;
    contended.cluster.inter_node.shares = {{.peers = 1, .bytes = 0, .share = 0.5}};
    EXPECT_GE(Seconds(contended), seconds * 0.98);
    StepPlan stopping = plan;
    stopping.cluster.overlap = 0;
    EXPECT_GE(Seconds(stopping), seconds * 0.98);
    StepPlan one_node = plan;
    one_node.cluster.ranks_per_node = 0;
    if (plan.mesh.world() > 2) {
      EXPECT_NE(Seconds(one_node), seconds);
    }
  }
  EXPECT_GT(changed, 40);
}

// A share of every microbatch's rows goes to the first owner instead of the others.
class SkewedRows : public RoutedRows {
 public:
  SkewedRows(const StepPlan& plan, double skew) : level_(plan.rows, plan.experts_of), skew_(skew) {}
  void Fill(int replica, int data, int microbatch, int layer, std::span<double> owners) const override {
    level_.Fill(replica, data, microbatch, layer, owners);
    for (double& rows : owners) rows *= 1 - skew_;
    owners[0] += skew_;
  }

 private:
  LevelRows level_;
  double skew_;
};

// With one stage: where stages differ, rows may leave one that has more to do.
TEST(StepWalk, MoreImbalanceIsNeverFaster) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  for (int i = 0; i < 80; ++i) {
    StepPlan plan = RandomPlan(random);
    if (plan.mesh.stages > 1) continue;
    plan.cluster.intra_node = plan.cluster.inter_node = {};
    double before = WalkStep(plan, SkewedRows(plan, 0)).seconds;
    EXPECT_NEAR(before, Seconds(plan), 1e-9 * before);
    for (const double skew : {0.1, 0.3, 0.9}) {
      const double seconds = WalkStep(plan, SkewedRows(plan, skew)).seconds;
      EXPECT_GE(seconds, before * (1 - 1e-12));
      before = seconds;
    }
  }
}

// Pools of so many ranks that a plan follows sums: 5 to 9 nodes of 8, all whose experts are shared evenly, on
// a wire that takes from a tenth to four times as long as the experts.
StepPlan LargePlan(std::mt19937& random) {
  std::uniform_real_distribution<double> uniform(0.1, 1);
  const int stages = 1 << random() % 3, nodes = 4 + 4 * static_cast<int>(random() % 2);
  const MeshShape mesh{.replicas = 1 + static_cast<int>(random() % 2),
                       .stages = stages,
                       .data = 8 * nodes / stages,
                       .span = random() % 4 == 0 ? PoolSpan::kStage : PoolSpan::kReplica};
  StepPlan plan = PlanOf(mesh, std::vector<int>(stages, 1 + static_cast<int>(random() % 2)),
                         1 + static_cast<int>(random() % 4),
                         {.dense = uniform(random), .expert = 2 * uniform(random), .head = uniform(random)});
  plan.experts_of.assign(mesh.pool(), 2);
  plan.row_bytes = 100.0 * mesh.pool();
  plan.end.dense_elements.assign(mesh.stages, 3200);
  plan.cluster.ranks_per_node = 8;
  plan.cluster.intra_node = {.latency_seconds = 1e-3 * uniform(random), .bytes_per_second = 2e5};
  plan.cluster.inter_node = {.latency_seconds = 5e-3 * uniform(random),
                             .bytes_per_second = plan.row_bytes / (4 * uniform(random))};
  plan.end.step_numbers = 50;
  return plan;
}

// Totals give the bytes of the blocks, and nearly their times; one rank of each stage those of all.
TEST(StepWalk, TotalsAreNearBlocks) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  double worst = 0, worst_one = 0;
  for (int i = 0; i < 20; ++i) {
    const StepPlan plan = LargePlan(random);
    const StepTimes blocks = WalkStep(plan, Level(plan));
    const StepTimes totals = WalkStep(plan, Level(plan), {.detail = WalkDetail::kTotals});
    const StepTimes one =
        WalkStep(plan, Level(plan), {.detail = WalkDetail::kTotals, .ranks = WalkRanks::kOnePerStage});
    const double bytes = blocks.bytes[kIntraNode] + blocks.bytes[kInterNode];
    for (const StepTimes* times : {&totals, &one}) {
      EXPECT_NEAR(times->bytes[kIntraNode], blocks.bytes[kIntraNode], 0.01 * bytes);
      EXPECT_NEAR(times->bytes[kInterNode], blocks.bytes[kInterNode], 0.01 * bytes);
    }
    worst = std::max(worst, std::abs(totals.seconds / blocks.seconds - 1));
    worst_one = std::max(worst_one, std::abs(one.seconds / blocks.seconds - 1));
  }
  EXPECT_LE(worst, 0.2);
  EXPECT_LE(worst_one, 0.35);
}

// One replica's slots are those of all, and nearly what follows them.
TEST(StepWalk, OneReplicaStandsForAll) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  for (int i = 0; i < 20; ++i) {
    const StepPlan plan = LargePlan(random);
    for (const WalkDetail detail : {WalkDetail::kBlocks, WalkDetail::kTotals}) {
      const StepTimes all = WalkStep(plan, Level(plan), {.detail = detail});
      const StepTimes one = WalkStep(plan, Level(plan), {.detail = detail, .ranks = WalkRanks::kOneReplica});
      EXPECT_EQ(one.ranks.size() * plan.mesh.replicas, all.ranks.size());
      EXPECT_NEAR(one.slot_seconds, all.slot_seconds, 1e-9 * all.slot_seconds);
      EXPECT_NEAR(one.seconds, all.seconds, 0.1 * all.seconds);
      for (const WireKind kind : {kIntraNode, kInterNode})
        EXPECT_NEAR(one.bytes[kind], all.bytes[kind], 0.01 * (all.bytes[kIntraNode] + all.bytes[kInterNode]));
    }
  }
}

// On nodes of two, few ranks, and a wire that takes most of the time, sums know least of blocks.
TEST(StepWalk, TotalsOfFewRanksAreNear) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  double worst = 0;
  for (int i = 0; i < 60; ++i) {
    const StepPlan plan = RandomPlan(random);
    const double blocks = Seconds(plan), totals = Seconds(plan, {.detail = WalkDetail::kTotals});
    worst = std::max(worst, std::abs(totals / blocks - 1));
  }
  EXPECT_LE(worst, 0.12);
}

// Where ranks are back among each other but links are not, the rest is a guess: 3 of 1000 such steps, and
// none was off by more than 0.6 %.
TEST(StepWalk, ManyMicrobatchesAreLikeFew) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  int num_guessed = 0;  // of 60
  for (int i = 0; i < 30; ++i) {
    StepPlan plan = RandomPlan(random);
    std::vector<int> layers;
    for (int s = 0; s < plan.mesh.stages; ++s) layers.push_back(plan.schedule.num_layers(s));
    plan.schedule = SlotSchedule(layers, 40);
    for (const WalkDetail detail : {WalkDetail::kBlocks, WalkDetail::kTotals}) {
      const double seconds = Seconds(plan, {.detail = detail});
      const double error = std::abs(WalkLongStep(plan, Level(plan), {.detail = detail}) / seconds - 1);
      EXPECT_LE(error, 0.01);
      num_guessed += error > 1e-6;
    }
  }
  EXPECT_LE(num_guessed, 5);
}

}  // namespace
}  // namespace unipool
