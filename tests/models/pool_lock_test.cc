// UniPool-lock of one rank: what it refuses, what it keeps, and when it ends a run.
#include "models/lock/pool_lock.h"

#include <gmock/gmock.h>

#include <map>

#include "runtime/errors.h"
#include "tests/models/lock_run.h"
#include "tests/models/rank_state.h"

namespace unipool {
namespace {

using testing::HasSubstr;

// The kernels leave an expert's logit in the norm when its score is gone: its router row still moves.
TEST(PoolLock, RowsOfLockedOutExpertsStillLearn) {
  OneRank one;
  const Config config = LockConfigOf();
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  LockTrace trace;
  RunLock(engine, config, one.world, 0, kLock + 1, trace);
  const auto router = [&](int layer) {
    for (const DiskTensor& tensor : engine.state().Weights()) {
      if (tensor.name == Format("model.layers.%d.mlp.router.weight", layer))
        return std::vector<double>(tensor.value.as<double>(),
                                   tensor.value.as<double>() + tensor.value.size());
    }
    return std::vector<double>();
  };
  const std::vector<double> before = router(1);
  RunLock(engine, config, one.world, kLock + 1, kLock + 3, trace);
  const std::vector<double> after = router(1);
  const int64_t hidden = config.model().hidden();
  for (int64_t i = 0; i < 8; ++i) {
    if (trace.owners[i] == 1) continue;
    double change = 0;
    for (int64_t d = 0; d < hidden; ++d) change += std::abs(after[i * hidden + d] - before[i * hidden + d]);
    EXPECT_GT(change, 1e-6) << "expert " << i;
  }
}

TEST(PoolLockDeathTest, WithoutAValidationNothingIsDecided) {
  OneRank one;
  const Config config = LockConfigOf();
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  std::vector<int32_t> tokens;
  EXPECT_DEATH(engine.TrainStep(kFreeze, 0, SamplesOf(engine, config, 1, kFreeze, tokens)),
               "no validation after step 4 has decided on owners");
}

std::string WhyRefused(PoolLock& lock, int64_t step) {
  try {
    lock.StateLoaded();
    lock.CheckAt(step);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(PoolLock, RefusesStatesThatCannotBe) {
  OneRank one;
  const Config config = LockConfigOf();
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  LockTrace trace;
  PoolLock& lock = *engine.parts().use.lock;
  std::map<std::string, Tensor> state;
  for (const DiskTensor& tensor : lock.State()) state[tensor.name] = tensor.value;
  EXPECT_EQ(WhyRefused(lock, kFreeze), "") << "its validation may still come";
  EXPECT_THAT(WhyRefused(lock, kFreeze + 1),
              HasSubstr("step 5 has no owners of experts, though moe.lock decided"));
  RunLock(engine, config, one.world, 0, kFreeze + 1, trace);
  for (const DiskTensor& tensor : lock.State()) state[tensor.name] = tensor.value;
  EXPECT_EQ(WhyRefused(lock, kFreeze + 1), "");
  auto* owners = state["lock.owners"].as<int32_t>();
  const int32_t first = owners[0];
  owners[0] = (first + 1) % 4;
  EXPECT_THAT(WhyRefused(lock, kFreeze + 1), HasSubstr(Format("layer %d owns 1 experts; must be 2", first)));
  owners[0] = 4;
  EXPECT_THAT(WhyRefused(lock, kFreeze + 1), HasSubstr("1 experts belong to no layer"));
  owners[0] = first;
  state["lock.numbers"].as<double>()[0] = 2;
  EXPECT_THAT(WhyRefused(lock, kFreeze + 1), HasSubstr("has version 2; this program knows version 1"));
}

// A run that is made longer keeps the boundaries that it began with.
TEST(PoolLock, TheStoredTimelineHolds) {
  OneRank one;
  Config config = LockConfigOf();
  Memory saved;
  {
    TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
    LockTrace trace;
    RunLock(engine, config, one.world, 0, 5, trace);
    engine.state().Collect();
    saved = Gather(engine, one.world);
  }
  config.mutable_train()->set_steps(10 * kSteps);
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  EXPECT_EQ(engine.parts().use.lock->plan().lock_step, 10 * kLock);
  Restore(engine, saved);
  EXPECT_EQ(engine.parts().use.lock->plan().freeze_step, kFreeze);
  EXPECT_EQ(engine.parts().use.lock->plan().lock_step, kLock);
}

TEST(PoolLock, TheGuardEndsTheRunAtTheSecondHighLoss) {
  OneRank one;
  Config config = LockConfigOf();
  config.mutable_moe()->mutable_lock()->set_guard_consecutive(2);
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  LockTrace trace;
  RunLock(engine, config, one.world, 0, kFreeze, trace);
  PoolLock& lock = *engine.parts().use.lock;
  const std::vector<int64_t> counts(8, 1);
  const auto observe = [&](int64_t step, double loss) {
    lock.BeginValidation();
    lock.BeginPass(1);
    const Tensor all(const_cast<int64_t*>(counts.data()), DType::kI64, {8});
    lock.AddChoices(0, 0, {.all = all, .positive = all});
    return lock.EndValidation(step, loss, *one.world.communicator);
  };
  EXPECT_TRUE(observe(kFreeze, 3.0).decided);
  EXPECT_FALSE(observe(kFreeze, 5.0).decided) << "the same step again changes nothing";
  EXPECT_FALSE(observe(kFreeze + 1, 3.06).is_too_high);
  EXPECT_FALSE(observe(kFreeze + 1, 3.06).is_too_high) << "counted once";
  const LockObservation last = observe(kFreeze + 2, 3.07);
  EXPECT_TRUE(last.is_too_high);
  EXPECT_NEAR(*last.guard_excess, 0.07, 1e-12);
}

}  // namespace
}  // namespace unipool
