// Training of small models on the asynchronous emulated device, beside the same on the CPU.
#pragma once

#include <gtest/gtest.h>

#include "runtime/world.h"
#include "tests/device_emulation/async_device.h"
#include "tests/models/training_run.h"

namespace unipool {

using emulation::AsyncDevice;
using emulation::RunPolicy;

// Few microbatches of few tokens: every thread of every kernel is run one by one.
inline Config DeviceConfigOf(const SmallModel& small) {
  Config config = TrainingConfigOf(small);
  config.mutable_moe()->set_width(8);
  config.mutable_train()->set_global_batch(4);
  return config;
}

inline Config OnDevice(Config config, TrainConfig::Precision precision = TrainConfig::FP32) {
  config.set_device(DeviceType::CUDA);
  config.mutable_train()->set_precision(precision);
  return config;
}

// The same run on the CPU, of one rank.
inline RunTrace TrainOnCpu(const Config& config, int64_t steps) {
  OneRank one;
  return Train(config, one.world, DType::kF32, steps);
}

// Of one rank, on a device that follows the policy.
inline RunTrace TrainOnDevice(const Config& config, int64_t steps, RunPolicy policy, uint64_t seed = 1) {
  OneRank one;
  AsyncDevice device(policy, seed);
  TrainingEngine engine(config, one.world, {.device = &device});
  return RunSteps(engine, config, 0, steps);
}

inline void ExpectNear(const RunTrace& run, const RunTrace& expected, double relative) {
  ASSERT_EQ(run.loss.size(), expected.loss.size());
  for (size_t step = 0; step < run.loss.size(); ++step) {
    EXPECT_NEAR(run.loss[step] / expected.loss[step], 1, relative) << "loss of step " << step;
    EXPECT_NEAR(run.grad_norm[step] / expected.grad_norm[step], 1, 10 * relative) << "norm of step " << step;
    EXPECT_NEAR(run.pool_loss[step], expected.pool_loss[step], 10 * relative * expected.loss[step]);
  }
}

}  // namespace unipool
