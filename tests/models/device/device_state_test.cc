// What leaves a device and comes back: checkpoints from and to the CPU, evaluation, generation, moving
// experts, and the memory that `info` predicts.
#include <gtest/gtest.h>

#include "models/memory_plan.h"
#include "models/settings.h"
#include "parallel/slot_placement.h"
#include "tests/models/device/device_run.h"
#include "tests/models/rank_state.h"

namespace unipool {
namespace {

Config SmallConfig() {
  return DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 2});
}

Memory StateOf(TrainingEngine& engine, World& world) {
  engine.state().Collect();
  return Gather(engine, world);
}

// Steps 0..3 on one device, 3..6 on the other, against six steps on the CPU.
TEST(DeviceState, CheckpointsGoFromTheCpuToTheDeviceAndBack) {
  const Config cpu_config = SmallConfig();
  const RunTrace whole = TrainOnCpu(cpu_config, 6);
  for (const bool cpu_first : {true, false}) {
    for (const TrainConfig::Precision precision : {TrainConfig::FP32, TrainConfig::BF16}) {
      SCOPED_TRACE(testing::Message() << (cpu_first ? "CPU first, " : "device first, ")
                                      << TrainConfig::Precision_Name(precision));
      const Config device_config = OnDevice(cpu_config, precision);
      OneRank one;
      AsyncDevice device(RunPolicy::kLate);
      Memory saved;
      {
        TrainingEngine first(cpu_first ? cpu_config : device_config, one.world, {.device = &device});
        EXPECT_EQ(first.parts().place.stream().device(), cpu_first ? Device::kCpu : Device::kCuda);
        RunSteps(first, cpu_config, 0, 3);
        saved = StateOf(first, one.world);
      }
      TrainingEngine second(cpu_first ? device_config : cpu_config, one.world, {.device = &device});
      EXPECT_EQ(second.parts().place.stream().device(), cpu_first ? Device::kCuda : Device::kCpu);
      Restore(second, saved);
      EXPECT_EQ(StateOf(second, one.world), saved) << "what was restored is not what was saved";
      const RunTrace rest = RunSteps(second, cpu_config, 3, 6);
      for (int step = 0; step < 3; ++step) {
        const double bound = precision == TrainConfig::FP32 ? 2e-5 : 0.02;
        EXPECT_NEAR(rest.loss[step] / whole.loss[3 + step], 1, bound) << "step " << 3 + step;
      }
    }
  }
}

TEST(DeviceState, ABf16RunResumesBitByBit) {
  const Config config = OnDevice(SmallConfig(), TrainConfig::BF16);
  const RunTrace whole = TrainOnDevice(config, 4, RunPolicy::kEager);
  OneRank one;
  AsyncDevice device(RunPolicy::kRandom, 3);
  Memory saved;
  {
    TrainingEngine first(config, one.world, {.device = &device});
    RunSteps(first, config, 0, 2);
    saved = StateOf(first, one.world);
  }
  TrainingEngine second(config, one.world, {.device = &device});
  Restore(second, saved);
  const RunTrace rest = RunSteps(second, config, 2, 4);
  for (int step = 0; step < 2; ++step) EXPECT_EQ(rest.loss[step], whole.loss[2 + step]);
}

TEST(DeviceState, EvaluationAndGenerationAreThoseOfTheCpu) {
  const Config config = SmallConfig();
  OneRank cpu_rank, device_rank;
  AsyncDevice device(RunPolicy::kLate);
  TrainingEngine cpu(config, cpu_rank.world, {.mode = EngineMode::kEvaluate});
  const Config device_config = OnDevice(config);
  TrainingEngine gpu(device_config, device_rank.world, {.mode = EngineMode::kEvaluate, .device = &device});
  std::vector<int32_t> tokens;
  const Tensor samples = SamplesOf(cpu, config, 5, 0, tokens);
  for (const int64_t counted : {4, 3}) {  // the last sequence may be padding
    const double expected = cpu.EvaluateLossSum(samples, counted);
    EXPECT_NEAR(gpu.EvaluateLossSum(samples, counted) / expected, 1, 1e-5);
  }
  const int64_t vocab = cpu.parts().spec.padded_vocab;
  for (int position = 0; position < 6; ++position) {
    const Tensor expected = cpu.NextLogits(tokens[position], position);
    const Tensor logits = gpu.NextLogits(tokens[position], position);
    for (int64_t i = 0; i < vocab; ++i) {
      EXPECT_NEAR(logits.as<float>()[i], expected.as<float>()[i], 1e-4) << position << ", " << i;
    }
  }
}

TEST(DeviceState, MovedExpertsChangeNoNumber) {
  Config config = OnDevice(DeviceConfigOf({.experts = 6, .layers = 2}), TrainConfig::BF16);
  config.mutable_train()->set_global_batch(4);
  const int exit_code = RunWorld({.num_threads = 2}, [&](World& world) {
    AsyncDevice device(world.rank() == 0 ? RunPolicy::kLate : RunPolicy::kRandom, 5);
    RunTrace still, moved;
    {
      TrainingEngine engine(config, world, {.device = &device});
      still = RunSteps(engine, config, 0, 4);
    }
    TrainingEngine engine(config, world, {.device = &device});
    moved = RunSteps(engine, config, 0, 2);
    engine.parts().replacer.MoveTo(ExpertPlacement({1, 0, 1, 0, 1, 0}, 2));
    engine.state().Collect();
    const RunTrace rest = RunSteps(engine, config, 2, 4);
    for (int step = 0; step < 2; ++step) EXPECT_EQ(rest.loss[step], still.loss[2 + step]) << step;
  });
  EXPECT_EQ(exit_code, 0);
}

double Relative(int64_t bytes, int64_t expected) {
  return static_cast<double>(bytes) / static_cast<double>(expected);
}

// Large enough for arrays to outweigh small change. Two steps and the loss that judges a checkpoint have all
// of the peak that there will be.
TEST(DeviceState, PeakMemoryIsWhatInfoPredicts) {
  for (const TrainConfig::Precision precision : {TrainConfig::FP32, TrainConfig::BF16}) {
    for (const int ranks : {1, 2}) {
      SCOPED_TRACE(testing::Message() << TrainConfig::Precision_Name(precision) << ", " << ranks << " ranks");
      Config config = OnDevice(DeviceConfigOf({.experts = 8, .top_k = 2, .layers = 2}), precision);
      config.mutable_model()->set_hidden(48);
      config.mutable_model()->set_seq_length(32);
      config.mutable_moe()->set_width(64);
      config.mutable_train()->set_global_batch(2 * ranks);
      const int exit_code = RunWorld({.num_threads = ranks}, [&](World& world) {
        AsyncDevice device(RunPolicy::kEager);
        TrainingEngine engine(config, world, {.device = &device});
        RunSteps(engine, config, 0, 2);
        std::vector<int32_t> tokens;
        const Tensor samples = SamplesOf(engine, config, 5, 0, tokens);
        engine.EvaluateLossSum(Tensor(samples.data, samples.dtype, {1, samples.dim(1), samples.dim(2)}),
                               config.train().micro_batch() * engine.data_ranks());
        const MeshShape shape = MeshShapeOf(config.parallel(), ranks);
        const MemoryPlan even = PlanMemory(config, shape, world.rank());
        const MemoryPlan worst = PlanMemory(config, shape, world.rank(), kAllRowsHere);
        const MemoryParts& parts = engine.parts().place.memory().parts_at_peak();
        for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
          SCOPED_TRACE(unipool::NameOf(static_cast<MemoryKind>(kind)));
          if (ranks == 1) {
            EXPECT_NEAR(Relative(parts[kind], even.parts()[kind]), 1, 0.03);
          } else {
            EXPECT_LE(parts[kind], worst.parts()[kind]);
          }
        }
        const int64_t peak = engine.parts().place.memory().peak_bytes();
        if (ranks == 1) {
          EXPECT_NEAR(Relative(peak, even.total()), 1, 0.02);
        }
        EXPECT_GE(device.records().peak_bytes, peak) << "the device gave more than was counted";
        EXPECT_NEAR(Relative(device.records().peak_bytes, peak), 1, 0.1);
      });
      EXPECT_EQ(exit_code, 0);
    }
  }
}

}  // namespace
}  // namespace unipool
