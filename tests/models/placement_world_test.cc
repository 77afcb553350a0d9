// Where experts live changes no number: losses and gradient norms are those of contiguous blocks bit for bit,
// whatever moves and when.
#include <random>

#include "models/settings.h"
#include "parallel/slot_placement.h"
#include "tests/models/layouts.h"
#include "tests/models/rank_state.h"
#include "tests/parallel/shared_seed.h"
#include "tests/parallel/shuffled_placement.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kSteps = 8;

// Gradients that are large enough to be clipped in every step, and those of experts large beside the others,
// so that the order in which their squares are summed would show.
Config ClippingConfigOf(const SmallModel& small) {
  Config config = TrainingConfigOf(small);
  config.mutable_train()->set_clip(0.05);
  config.mutable_model()->set_init_std(0.6);
  config.mutable_moe()->set_width(40);
  return config;
}

Config With(Config config, ParallelConfig::Placement placement, int64_t replace_every) {
  config.mutable_parallel()->set_placement(placement);
  config.mutable_parallel()->set_replace_every(replace_every);
  return config;
}

// Steps one at a time, with `between` called after each.
template <class Between>
RunTrace RunWith(TrainingEngine& engine, const Config& config, Between between) {
  RunTrace trace;
  for (int64_t step = 0; step < kSteps; ++step) {
    const RunTrace one = RunSteps(engine, config, step, step + 1);
    trace.loss.push_back(one.loss[0]);
    trace.pool_loss.push_back(one.pool_loss[0]);
    trace.grad_norm.push_back(one.grad_norm[0]);
    between(step + 1);
  }
  return trace;
}

void CheckKind(const SmallModel& small) {
  RunOnRanks([&](World& world) {
    const uint64_t seed = SharedSeed(world);
    std::mt19937_64 random(seed);
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout) + ", " + SeedText(seed));
      const Config laid = Laid(ClippingConfigOf(small), layout);
      RunTrace expected;
      {
        const Config config = With(laid, ParallelConfig::CONTIGUOUS, 1);
        TrainingEngine engine(config, world);
        expected = RunWith(engine, config, [&](int64_t steps) {
          EXPECT_FALSE(engine.ReplaceExpertsIfDue(steps).has_value());
        });
        EXPECT_EQ(NumMoved(engine.parts().placement,
                           ContiguousPlacement(small.experts, engine.parts().mesh.pool().size())),
                  0);
        for (const double norm : expected.grad_norm) EXPECT_GT(norm, config.train().clip());
      }
      {  // by the counts of each two steps
        const Config config = With(laid, ParallelConfig::SLOT_AWARE, 2);
        TrainingEngine engine(config, world);
        EXPECT_EQ(RunWith(engine, config,
                          [&](int64_t steps) {
                            const bool due = engine.parts().mesh.pool().size() > 1 && steps % 2 == 0;
                            const auto report = engine.ReplaceExpertsIfDue(steps);
                            ASSERT_EQ(report.has_value(), due);
                            if (!due) return;
                            EXPECT_LE(report->imbalance_after, report->imbalance_before);
                          }),
                  expected);
      }
      {  // by chance, after every step
        const Config config = With(laid, ParallelConfig::CONTIGUOUS, 0);
        TrainingEngine engine(config, world);
        int moved = 0;
        EXPECT_EQ(RunWith(engine, config,
                          [&](int64_t) {
                            const ExpertPlacement to = Shuffled(engine.parts().placement, random);
                            moved += NumMoved(engine.parts().placement, to);
                            engine.parts().replacer.MoveTo(to);
                            EXPECT_EQ(NumMoved(engine.parts().placement, to), 0);
                          }),
                  expected);
        EXPECT_TRUE(moved > 0 || engine.parts().mesh.pool().size() == 1);
      }
    }
  });
}

TEST(Placement, ChangesNoNumberOfUniPool) {
  CheckKind({.experts = 7, .top_k = 2});
}
TEST(Placement, ChangesNoNumberOfVanillaMoe) {
  CheckKind({.router = RouterType::SOFTMAX,
             .sharing = Sharing::PRIVATE,
             .balance = Balance::LAYER_LOSS,
             .experts = 15,
             .top_k = 2});
}
TEST(Placement, ChangesNoNumberOfADenseModel) {
  CheckKind({.sharing = Sharing::DENSE, .balance = Balance::NONE, .experts = 5});
}

// Skewed routing is levelled: experts move, and the imbalance that is reported falls.
TEST(Placement, FollowsTheCounts) {
  RunOnRanks([](World& world) {
    const Config config =
        With(TrainingConfigOf({.balance = Balance::NONE, .experts = 16}), ParallelConfig::SLOT_AWARE, 3);
    TrainingEngine engine(config, world);
    RunSteps(engine, config, 0, 3);
    const double before = engine.SlotImbalance();
    const auto report = engine.ReplaceExpertsIfDue(3);
    if (world.size() == 1) {
      EXPECT_EQ(before, 1);
      return;
    }
    ASSERT_TRUE(report.has_value());
    EXPECT_GT(report->num_moved, 0);
    EXPECT_EQ(report->bytes, report->num_moved * 3 * 3 * 24 * 5 * 4);  // weights and two moments
    EXPECT_GT(before, 1.05);
    EXPECT_LT(report->imbalance_after, report->imbalance_before - 0.01);
    EXPECT_LT(engine.SlotImbalance(), before);
    EXPECT_FALSE(engine.ReplaceExpertsIfDue(4).has_value());
  });
}

int64_t BytesTaken(const MemoryMeter& memory) {
  int64_t bytes = memory.ahead_bytes();
  for (int kind = 0; kind < kNumMemoryKinds; ++kind)
    bytes += memory.current_bytes(static_cast<MemoryKind>(kind));
  return bytes;
}

// Memory for the rows that come to a rank's new experts is taken when they move, and by no slot of a step.
// With one microbatch a slot has exactly the rows that were counted. A buffer that had none takes none ahead.
TEST(Placement, TakesMemoryBetweenSteps) {
  RunOnRanks([](World& world) {
    if (world.size() == 1) return;
    double grown = 0, in_step = 0;  // bytes of the rank over all layouts
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      Config config = With(Laid(TrainingConfigOf({.balance = Balance::NONE, .experts = 16}), layout),
                           ParallelConfig::SLOT_AWARE, 1);
      const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
      if (shape.pool() == 1) continue;
      config.mutable_train()->set_global_batch(config.train().micro_batch() * shape.data_ranks());
      MemoryMeter memory;
      World measured = world;
      measured.memory = &memory;
      TrainingEngine engine(config, measured);
      std::vector<int32_t> tokens;
      const auto step = [&](int64_t number) {
        engine.TrainStep(number, 0, SamplesOf(engine, config, 2024, 0, tokens));
        return BytesTaken(memory);
      };
      const int64_t before = step(0);
      ASSERT_TRUE(engine.ReplaceExpertsIfDue(1).has_value());
      const int64_t after = BytesTaken(memory);
      in_step += static_cast<double>(step(1) - after);
      grown += static_cast<double>(after - before);
    }
    const double most = world.communicator->AllReduceMax(grown, {.operation = "grown"});
    EXPECT_GT(most, 0);
    EXPECT_LT(in_step, 0.1 * most) << "what had no rows before is taken in the step";
  });
}

// Layers that see different experts are spread before the first step.
TEST(Placement, StartsFromWhatLayersSee) {
  RunOnRanks([](World& world) {
    if (world.size() == 1) return;
    Config config = TrainingConfigOf({.router = RouterType::SOFTMAX,
                                      .sharing = Sharing::PRIVATE,
                                      .balance = Balance::LAYER_LOSS,
                                      .experts = 20,
                                      .top_k = 2});
    const ExpertPlacement contiguous = ContiguousPlacement(20, world.size());
    EXPECT_GT(NumMoved(TrainingEngine(config, world).parts().placement, contiguous), 0);
    config = TrainingConfigOf({.experts = 20});
    EXPECT_EQ(NumMoved(TrainingEngine(config, world).parts().placement, contiguous), 0);
  });
}

// A run that continues places its experts as if it had never stopped, also in the middle of an interval.
TEST(Placement, ContinuesBitForBit) {
  RunOnRanks([](World& world) {
    const Config config =
        With(ClippingConfigOf({.balance = Balance::NONE, .experts = 16}), ParallelConfig::SLOT_AWARE, 3);
    auto run = [&](TrainingEngine& engine, int64_t first, int64_t last) {
      RunTrace trace;
      for (int64_t step = first; step < last; ++step) {
        trace.loss.push_back(RunSteps(engine, config, step, step + 1).loss[0]);
        engine.ReplaceExpertsIfDue(step + 1);
      }
      return trace;
    };
    Memory saved;
    RunTrace expected;
    std::vector<int> at_save, at_end;
    auto owners = [](const TrainingEngine& engine) {
      std::vector<int> list;
      for (int i = 0; i < engine.parts().placement.num_experts(); ++i)
        list.push_back(engine.parts().placement.owner(i));
      return list;
    };
    {
      TrainingEngine engine(config, world);
      run(engine, 0, 4);
      engine.state().Collect();
      saved = Gather(engine, world);
      at_save = owners(engine);
      expected = run(engine, 4, 8);
      at_end = owners(engine);
    }
    Config other = config;
    other.mutable_train()->set_seed(777);  // other initial weights
    TrainingEngine engine(other, world);
    EXPECT_TRUE(world.size() == 1 || owners(engine) != at_save);
    Restore(engine, saved);
    EXPECT_EQ(owners(engine), at_save);
    EXPECT_EQ(run(engine, 4, 8), expected);
    EXPECT_EQ(owners(engine), at_end);
  });
}

}  // namespace
}  // namespace unipool
