// UniPool-lock on whole small models in every layout: its life from the first step to the end, and through
// saves at each of its boundaries.
#include "tests/models/layouts.h"
#include "tests/models/lock_run.h"
#include "tests/models/rank_state.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

TEST(PoolLock, LifeOfARun) {
  RunOnRanks([&](World& world) {
    const LockTrace trace = WholeRun(LockConfigOf(), world);
    EXPECT_EQ(SizesOf(trace.owners), (std::vector<int>{2, 2, 2, 2}));
    int64_t faded = 0;
    for (int step = 0; step < kSteps; ++step) {
      SCOPED_TRACE(step);
      const LockReport& report = trace.reports[step];
      EXPECT_EQ(report.stage, step < kFreeze ? LockStage::kFull
                              : step < kLock ? LockStage::kAnneal
                                             : LockStage::kLocked);
      EXPECT_GT(report.entropy, 0);
      if (step < kFreeze) {
        EXPECT_EQ(report.anneal, 0);
      }
      if (step >= kLock) {
        EXPECT_EQ(report.anneal, 1);
        EXPECT_EQ(report.off_mask_rows, 0);
      } else {
        faded += report.off_mask_rows;
      }
    }
    EXPECT_GT(faded, 0) << "before the lock layers chose others' experts too, or the test shows nothing";
    EXPECT_EQ(trace.coverage.back(), 1) << "a locked layer chooses its own";
    EXPECT_LT(trace.coverage.front(), 1);
    EXPECT_LT(trace.run.loss.back(), trace.run.loss.front()) << "nothing is learned";
  });
}

LockTrace OneRankTrace(const Config& config, World& world) {
  LockTrace trace;
  OneRank one;
  if (world.rank() == 0) trace = WholeRun(config, one.world);
  trace.owners.resize(8);
  for (std::vector<double>* values : {&trace.run.loss, &trace.run.pool_loss, &trace.run.grad_norm}) {
    values->resize(kSteps);
    world.communicator->Broadcast(values->data(), kSteps * 8, 0, {.operation = "losses of one rank"});
  }
  world.communicator->Broadcast(trace.owners.data(), 8 * 4, 0, {.operation = "owners of one rank"});
  return trace;
}

TEST(PoolLock, EveryLayoutDecidesAndTrainsAlike) {
  RunOnRanks([&](World& world) {
    for (const ParallelConfig::Placement placement :
         {ParallelConfig::SLOT_AWARE, ParallelConfig::OWNER_STAGE}) {
      Config config = LockConfigOf(LockConfig::COUNTS, placement == ParallelConfig::OWNER_STAGE ? 2 : 1);
      config.mutable_parallel()->set_placement(placement);
      config.mutable_parallel()->set_replace_every(3);  // experts move on both sides of the lock
      const LockTrace one = OneRankTrace(config, world);
      for (const Layout& layout : LayoutsOf(world.size())) {
        if (12 % (world.size() / layout.stages) != 0 || layout.stages > 4) continue;
        SCOPED_TRACE(NameOf(layout) + ", " + ParallelConfig::Placement_Name(placement));
        const LockTrace trace = WholeRun(Laid(config, layout), world);
        EXPECT_EQ(trace.owners, one.owners);
        ExpectSameTraining(trace.run, one.run, 1e-11);
        EXPECT_EQ(trace.reports.back().off_mask_rows, 0);
      }
    }
  });
}

// Scopes that depend on the layout repeat on one.
TEST(PoolLock, RepeatsBitForBit) {
  RunOnRanks([&](World& world) {
    for (const BalanceScope::Value scope : {BalanceScope::STEP, BalanceScope::RANK}) {
      Config config = LockConfigOf();
      config.mutable_moe()->set_balance_scope(scope);
      const LockTrace one = WholeRun(config, world, DType::kF32),
                      other = WholeRun(config, world, DType::kF32);
      EXPECT_EQ(one.run, other.run);
      EXPECT_EQ(one.owners, other.owners);
    }
  });
}

TEST(PoolLock, ResumesAtEveryBoundaryBitForBit) {
  RunOnRanks([&](World& world) {
    for (int stages = 1; stages <= std::min(2, world.size()); ++stages) {
      if (world.size() % stages != 0) continue;
      Config config = LockConfigOf();
      config.mutable_parallel()->set_stages(stages);
      const LockTrace whole = WholeRun(config, world, DType::kF32);
      for (const int save : {1, 3, 4, 5, 6, 7, 8, 9, 11}) {
        SCOPED_TRACE(Format("saved after %d updates, %d stages", save, stages));
        Memory saved;
        LockTrace ignored, rest;
        {
          TrainingEngine engine(config, world, {.dtype = DType::kF32});
          RunLock(engine, config, world, 0, save, ignored);
          if (save % 2 == 0) Validate(engine, config, world, save, ignored);  // before the save, as in a run
          engine.state().Collect();
          saved = Gather(engine, world);
        }
        TrainingEngine engine(config, world, {.dtype = DType::kF32});
        Restore(engine, saved);
        engine.parts().use.lock->CheckAt(save);
        RunLock(engine, config, world, save, kSteps, rest);  // validates once more: nothing changes by it
        EXPECT_EQ(rest.run.loss, std::vector<double>(whole.run.loss.begin() + save, whole.run.loss.end()));
        EXPECT_EQ(rest.owners, whole.owners);
      }
    }
  });
}

TEST(PoolLock, DrawnOwnersFromTheFirstStep) {
  RunOnRanks([&](World& world) {
    Config config = LockConfigOf(LockConfig::RANDOM);
    config.mutable_moe()->mutable_lock()->set_entropy_end_fraction(0);
    config.mutable_moe()->mutable_lock()->set_lock_fraction(0);
    const LockTrace trace = WholeRun(config, world);
    EXPECT_EQ(SizesOf(trace.owners), (std::vector<int>{2, 2, 2, 2}));
    for (const LockReport& report : trace.reports) {
      EXPECT_EQ(report.stage, LockStage::kLocked);
      EXPECT_EQ(report.off_mask_rows, 0);
    }
  });
}

}  // namespace
}  // namespace unipool
