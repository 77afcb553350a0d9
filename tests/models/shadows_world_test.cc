// Shadows change where rows are computed, and no result but by rounding: losses and gradient norms of every
// layout are those without shadows, bit for bit the same in every run, and also after a resume.
#include "models/settings.h"
#include "parallel/shadow_placement.h"
#include "tests/models/layouts.h"
#include "tests/models/rank_state.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kSteps = 6;

Config With(Config config, int shadows) {
  config.mutable_parallel()->set_shadow_experts(shadows);
  config.mutable_parallel()->set_placement(ParallelConfig::SLOT_AWARE);
  config.mutable_parallel()->set_replace_every(2);
  config.mutable_train()->set_clip(0.05);  // every step is clipped: an expert that is counted twice shows
  return config;
}

struct Result {
  RunTrace trace;
  int most_shadows = 0;
  double imbalance = 1;
};

void AddSteps(TrainingEngine& engine, const Config& config, int64_t first, int64_t last, Result& result) {
  for (int64_t step = first; step < last; ++step) {
    const RunTrace one = RunSteps(engine, config, step, step + 1);
    result.trace.loss.push_back(one.loss[0]);
    result.trace.pool_loss.push_back(one.pool_loss[0]);
    result.trace.grad_norm.push_back(one.grad_norm[0]);
    const auto report = engine.ReplaceExpertsIfDue(step + 1);
    if (report) result.imbalance = report->imbalance_after;
    result.most_shadows = std::max(result.most_shadows, NumShadows(engine.parts().placement));
  }
}

Result Run(const Config& config, World& world, DType dtype) {
  TrainingEngine engine(config, world, {.dtype = dtype, .shadows_are_free = true});
  Result result;
  AddSteps(engine, config, 0, kSteps, result);
  return result;
}

struct Way {
  DType dtype = DType::kF64;
  double tolerance = 1e-11;
  bool recompute = false;
  int weight_grad_slots = 1;
};

void CheckKind(const SmallModel& small, const Way& way) {
  RunOnRanks([&](World& world) {
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
      Config config = Laid(TrainingConfigOf(small), layout);
      config.mutable_train()->set_recompute_experts(way.recompute);
      config.mutable_train()->set_weight_grad_slots(way.weight_grad_slots);
      const Result without = Run(With(config, 0), world, way.dtype);
      const Result with = Run(With(config, 2), world, way.dtype);
      ExpectSameTraining(with.trace, without.trace, way.tolerance);
      for (const double norm : with.trace.grad_norm) EXPECT_GT(norm, 0.05);
      EXPECT_EQ(Run(With(config, 2), world, way.dtype).trace, with.trace) << "bit for bit";
      EXPECT_EQ(without.most_shadows, 0);
      const bool is_alone = MeshShapeOf(config.parallel(), world.size()).pool() == 1;
      EXPECT_EQ(with.most_shadows > 0, !is_alone);
      EXPECT_TRUE(is_alone || with.imbalance < without.imbalance)
          << with.imbalance << " " << without.imbalance;
    }
  });
}

TEST(Shadows, ChangeNoNumberOfUniPool) {
  CheckKind({.balance = Balance::NONE, .experts = 7, .top_k = 2}, {});
  CheckKind({.experts = 9}, {.dtype = DType::kF32, .tolerance = 1e-5});
}
TEST(Shadows, ChangeNoNumberWithRecomputation) {
  CheckKind({.balance = Balance::NONE, .experts = 9}, {.recompute = true});
}
TEST(Shadows, ChangeNoNumberWithSlotsAddedAtOnce) {
  CheckKind({.balance = Balance::NONE, .experts = 7, .top_k = 2}, {.weight_grad_slots = 3});
}
TEST(Shadows, ChangeNoNumberOfVanillaMoe) {
  CheckKind({.router = RouterType::SOFTMAX,
             .sharing = Sharing::PRIVATE,
             .balance = Balance::LAYER_LOSS,
             .experts = 15,
             .top_k = 2},
            {});
}

// A run that continues chooses the shadows that it had.
TEST(Shadows, ContinueBitForBit) {
  RunOnRanks([](World& world) {
    const Config config = With(TrainingConfigOf({.balance = Balance::NONE, .experts = 16}), 2);
    Memory saved;
    Result expected, resumed;
    ExpertPlacement at_save;
    {
      TrainingEngine engine(config, world, {.shadows_are_free = true});
      Result before;
      AddSteps(engine, config, 0, 3, before);
      engine.state().Collect();
      saved = Gather(engine, world);
      at_save = engine.parts().placement;
      AddSteps(engine, config, 3, 7, expected);
    }
    Config other = config;
    other.mutable_train()->set_seed(777);  // other initial weights
    TrainingEngine engine(other, world, {.shadows_are_free = true});
    Restore(engine, saved);
    EXPECT_TRUE(engine.parts().placement == at_save);
    EXPECT_EQ(NumShadows(at_save) > 0, world.size() > 1);
    AddSteps(engine, config, 3, 7, resumed);
    EXPECT_EQ(resumed.trace, expected.trace);
    for (const auto& [name, bytes] : saved) {
      const bool is_of_shadows = name.find("shadow") != std::string::npos;
      EXPECT_EQ(is_of_shadows, name == "state/placement.shadow_counts") << name;
    }
  });
}

}  // namespace
}  // namespace unipool
