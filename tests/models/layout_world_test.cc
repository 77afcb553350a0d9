// Every layout of the ranks trains like one rank: the losses of 20 steps, for every kind of model.
#include "tests/models/layouts.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

// Rank 0 trains alone and tells the others.
RunTrace OneRankTrace(const Config& config, World& world, DType dtype, int steps) {
  RunTrace trace;
  if (world.rank() == 0) {
    OneRank one;
    trace = Train(config, one.world, dtype, steps);
  }
  for (std::vector<double>* values : {&trace.loss, &trace.pool_loss, &trace.grad_norm}) {
    values->resize(steps);
    world.communicator->Broadcast(values->data(), steps * 8, 0, {.operation = "losses of one rank"});
  }
  return trace;
}

void CheckKind(const SmallModel& small, DType dtype, int steps, double tolerance) {
  RunOnRanks([&](World& world) {
    const Config config = TrainingConfigOf(small);
    const RunTrace one = OneRankTrace(config, world, dtype, steps);
    EXPECT_LT(one.loss.back(), one.loss.front() - 0.05) << "nothing is learned";
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(small) +
                   Format(", %s, stages %d, replicas %d", NameOf(dtype), layout.stages, layout.replicas));
      const Config laid = Laid(config, layout);
      const RunTrace trace = Train(laid, world, dtype, steps);
      ExpectSameTraining(trace, one, tolerance);
      EXPECT_TRUE(world.size() > 1 || trace == one) << "one rank twice, here and there";
    }
  });
}

TEST(Layout, EveryKindTrainsLikeOneRank) {
  for (const SmallModel& small : PresetKinds()) CheckKind(small, DType::kF32, 20, 1e-5);
}
TEST(Layout, EveryKindTrainsLikeOneRankInDouble) {
  for (const SmallModel& small : PresetKinds()) CheckKind(small, DType::kF64, 8, 1e-11);
}

TEST(Layout, TwoRunsAreBitIdentical) {
  for (BalanceScope::Value scope : {BalanceScope::STEP, BalanceScope::MICROBATCH, BalanceScope::RANK}) {
    RunOnRanks([&](World& world) {
      const Config config = TrainingConfigOf({.scope = scope, .experts = 7, .top_k = 2});
      for (const Layout& layout : LayoutsOf(world.size())) {
        SCOPED_TRACE(BalanceScope::Value_Name(scope) + ", " + NameOf(layout));
        const Config laid = Laid(config, layout);
        const RunTrace first = Train(laid, world, DType::kF32, 4);
        EXPECT_EQ(Train(laid, world, DType::kF32, 4), first);
        EXPECT_GT(first.loss[0], first.loss[3]);
      }
    });
  }
}

// Layers given per stage, with a last stage that runs its head in the place of missing layers, and with one
// that does not: twice each, 20 steps.
TEST(Layout, GivenLayersPerStage) {
  for (SmallModel small : PoolVanillaAndDense(/*layers=*/7)) {
    RunOnRanks([&](World& world) {
      const std::vector<std::vector<int>> cuts[] = {
          {{7}}, {{5, 2}, {6, 1}}, {{3, 3, 1}, {2, 1, 4}}, {{2, 2, 2, 1}, {1, 3, 1, 2}}};
      const Config config = TrainingConfigOf(small);
      const RunTrace one = OneRankTrace(config, world, DType::kF32, 20);
      for (Layout layout : LayoutsOf(world.size())) {
        for (const std::vector<int>& cut : cuts[layout.stages - 1]) {
          layout.layers = cut;
          SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
          const Config laid = Laid(config, layout);
          const RunTrace first = Train(laid, world, DType::kF32, 20);
          ExpectSameTraining(first, one, 1e-5);
          EXPECT_EQ(Train(laid, world, DType::kF32, 20), first) << "the same run twice";
        }
      }
    });
  }
}

// Computing again what attention could have kept changes nothing at all but the memory it takes; nor what
// experts could have kept, if their batches are the same in both directions.
TEST(Layout, RecomputationIsBitIdentical) {
  RunOnRanks([&](World& world) {
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      Config config = Laid(TrainingConfigOf({.experts = 7, .top_k = 2}), layout);
      config.mutable_train()->set_micro_batch(2);
      config.mutable_train()->set_global_batch(24);
      auto train = [&] {  // on a meter of its own
        MemoryMeter memory;
        World measured = world;
        measured.memory = &memory;
        const RunTrace trace = Train(config, measured, DType::kF32, 5);
        return std::pair(trace, memory.peak_bytes(MemoryKind::kActivations));
      };
      const auto [kept, kept_bytes] = train();
      config.mutable_train()->set_recompute_experts(true);
      const auto [experts, experts_bytes] = train();
      config.mutable_train()->set_recompute_attention(true);
      const auto [both, both_bytes] = train();
      config.mutable_train()->set_recompute_experts(false);
      const auto [attention, attention_bytes] = train();
      EXPECT_EQ(attention, kept);
      EXPECT_EQ(both, experts);
      if (layout.stages == 1 || layout.experts == ParallelConfig::PER_STAGE) {
        EXPECT_EQ(experts, kept);
      } else {  // a backward batch joins rows of several forward batches, and products of few rows sum
                // differently
        ExpectClose(experts.loss, kept.loss, 1e-5, "loss");
      }
      // Per token, and per layer in flight: normed, qkv, mixed, lse, 1/rms. Fields are padded to 64 bytes.
      const int64_t tokens = 2 * config.model().seq_length(), per_token = 4 * (24 + 40 + 24 + 6 + 1);
      const int64_t layers = (kept_bytes - attention_bytes) / (tokens * per_token);
      EXPECT_GE(layers, config.model().layers() / layout.stages);
      EXPECT_EQ(kept_bytes - attention_bytes, experts_bytes - both_bytes);
      EXPECT_LT(experts_bytes, kept_bytes);
    }
  });
}

}  // namespace
}  // namespace unipool
