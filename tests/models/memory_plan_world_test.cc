// What `info` predicts of a rank's memory against what a training run takes, by kind.
#include "models/memory_plan.h"
#include "models/settings.h"
#include "tests/models/training_run.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

struct Case {
  int stages = 1, replicas = 1;
  ParallelConfig::Experts experts = ParallelConfig::POOL;
  bool recompute_experts = false, recompute_attention = false;
  int shadows = 0;
  bool spread_head = false, bf16 = false;
};

// Large enough for arrays of tokens and weights to outweigh paddings and statistics.
Config ConfigFor(const Case& c) {
  Config config = TrainingConfigOf({.experts = 12, .top_k = 2});
  config.mutable_model()->set_hidden(96);
  config.mutable_model()->set_seq_length(64);
  config.mutable_moe()->set_width(200);
  config.mutable_train()->set_micro_batch(2);
  config.mutable_train()->set_global_batch(24);
  config.mutable_train()->set_recompute_experts(c.recompute_experts);
  config.mutable_train()->set_recompute_attention(c.recompute_attention);
  config.mutable_parallel()->set_shadow_experts(c.shadows);
  if (c.bf16) config.mutable_train()->set_precision(TrainConfig::BF16);
  config.mutable_parallel()->set_replace_every(c.shadows > 0 ? 1 : 0);
  config.mutable_train()->set_steps(3);
  config.mutable_parallel()->set_head(c.spread_head ? ParallelConfig::SPREAD : ParallelConfig::LAST_STAGE);
  config.mutable_parallel()->set_stages(c.stages);
  config.mutable_parallel()->set_pool_replicas(c.replicas);
  config.mutable_parallel()->set_experts(c.experts);
  return config;
}

std::vector<Case> CasesOf(int ranks) {
  std::vector<Case> cases{{},
                          {.recompute_experts = true},
                          {.recompute_attention = true},
                          {.bf16 = true},
                          {.recompute_experts = true, .bf16 = true}};
  if (ranks > 1) {
    cases.push_back({.stages = ranks});
    cases.push_back({.stages = ranks, .recompute_experts = true, .recompute_attention = true});
    cases.push_back({.stages = ranks, .experts = ParallelConfig::PER_STAGE});
    cases.push_back({.replicas = ranks});
    cases.push_back({.shadows = 2});
    cases.push_back({.shadows = 2, .bf16 = true});
    cases.push_back({.stages = ranks, .shadows = 1});
    cases.push_back({.stages = ranks, .spread_head = true});
    cases.push_back({.stages = ranks, .spread_head = true, .bf16 = true});
    cases.push_back({.stages = ranks, .experts = ParallelConfig::PER_STAGE, .spread_head = true});
  }
  if (ranks == 4) cases.push_back({.stages = 2});
  return cases;
}

double Relative(int64_t value, int64_t expected) {
  return static_cast<double>(value) / static_cast<double>(expected);
}

// The loss of one round of microbatches: what judges a checkpoint. No setting asks for it.
void EvaluateOneRound(TrainingEngine& engine, const Config& config) {
  const int64_t sequences = config.train().micro_batch() * engine.data_ranks();
  std::vector<int32_t> tokens;
  const Tensor samples = SamplesOf(engine, config, 5, 0, tokens);
  const Tensor first(samples.data, samples.dtype, {1, samples.dim(1), samples.dim(2)});
  engine.EvaluateLossSum(first, sequences);
}

// The peak of this rank's first steps, whose routing is uneven, and the report on the heaviest rank.
void CheckCase(const Case& c, World& world) {
  const Config config = ConfigFor(c);
  const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
  MemoryMeter memory;
  World measured = world;
  measured.memory = &memory;
  MemoryPeak reported;
  HeldRows rows;
  {
    TrainingEngine engine(config, measured, {.shadows_are_free = true});
    std::vector<int32_t> tokens;
    for (int64_t step = 0; step < 3; ++step) {
      if (step == 2) EvaluateOneRound(engine, config);
      reported = engine.TrainStep(step, 1e-3, SamplesOf(engine, config, 5, step, tokens)).memory;
      if (c.shadows > 0 && step == 0) engine.ReplaceExpertsIfDue(step + 1);
    }
    rows = engine.parts().dispatcher.held_rows();
  }
  const MemoryParts& parts = memory.parts_at_peak();
  const MemoryPlan even = PlanMemory(config, shape, world.rank());
  const MemoryPlan worst = PlanMemory(config, shape, world.rank(), kAllRowsHere);
  for (MemoryKind kind : {MemoryKind::kParameters, MemoryKind::kGradients, MemoryKind::kOptimizer}) {
    EXPECT_EQ(parts[static_cast<int>(kind)], even[kind]) << NameOf(kind);
  }
  for (MemoryKind kind : {MemoryKind::kActivations, MemoryKind::kExchange, MemoryKind::kScratch}) {
    const int64_t bytes = parts[static_cast<int>(kind)];
    EXPECT_LE(bytes, worst[kind]) << NameOf(kind) << " of rank " << world.rank();
    if (shape.pool() == 1) {
      // Choices without a score are no rows.
      EXPECT_NEAR(Relative(bytes, even[kind]), 1, 0.003) << NameOf(kind) << " of rank " << world.rank();
    }
  }

  // With the rows that came the plan is what was measured, and never less. A peak need not be when experts
  // move.
  Config still = config;
  still.mutable_parallel()->set_replace_every(0);
  const int64_t peak = memory.peak_bytes();
  EXPECT_GE(PlanMemory(config, shape, world.rank(), rows).total(), peak) << "rank " << world.rank();
  const double most = c.shadows > 0 ? 1.10 : 1.005;  // not all that shadows are staged in is used
  EXPECT_LE(Relative(PlanMemory(still, shape, world.rank(), rows).total(), peak), most)
      << "rank " << world.rank();

  // The report is that of the heaviest rank, and the heaviest rank gets at least its share. A loss goes
  // through the experts in pieces, and is planned as one.
  const double own = static_cast<double>(memory.peak_bytes());
  EXPECT_EQ(static_cast<double>(reported.total()),
            world.communicator->AllReduceMax(own, {.operation = "heaviest"}));
  if (reported.rank != world.rank()) return;
  EXPECT_EQ(reported.bytes, parts);
  EXPECT_EQ(reported.rows, rows);
  EXPECT_GE(Relative(reported.total(), PlanMemory(still, shape, world.rank()).total()), 0.99);
  EXPECT_LE(reported.total(), worst.total());
}

TEST(MemoryPlan, MeasuredPeaksLieBetweenEvenRoutingAndTheWorstCase) {
  RunOnRanks([](World& world) {
    for (const Case& c : CasesOf(world.size())) {
      SCOPED_TRACE(
          Format("stages %d, replicas %d, per stage %d, recompute %d %d, shadows %d, spread %d, bf16 %d",
                 c.stages, c.replicas, static_cast<int>(c.experts), int{c.recompute_experts},
                 int{c.recompute_attention}, c.shadows, int{c.spread_head}, int{c.bf16}));
      CheckCase(c, world);
    }
  });
}

TEST(MemoryPlan, GrowsWithImbalanceUpToAllRows) {
  const Config config = ConfigFor({});
  const MeshShape shape{.data = 4};
  int64_t before = 0;
  for (double imbalance : {0.0, 0.5, 1.0, 2.0, 4.0}) {
    const int64_t total = PlanMemory(config, shape, 1, imbalance).total();
    EXPECT_GT(total, before);
    before = total;
  }
  EXPECT_EQ(PlanMemory(config, shape, 1, 5).total(), before);  // a quarter of the experts: 4 is everything
  EXPECT_EQ(PlanMemory(config, shape, 1, kAllRowsHere).total(), before);
  EXPECT_EQ(PlanMemory(config, {.data = 1}, 0, 2).total(), PlanMemory(config, {.data = 1}, 0).total());
}

}  // namespace
}  // namespace unipool
