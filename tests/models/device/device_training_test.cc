// Whole training steps on the asynchronous emulated device: the same numbers as on the CPU, the same bits
// however late or early the device works, and a host that neither allocates nor waits where it should not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "models/memory_plan.h"
#include "tests/models/device/device_run.h"

namespace unipool {
namespace {

constexpr int64_t kSteps = 4;

TEST(DeviceTraining, LossesAreThoseOfTheCpuAndTheSameBitsUnderEveryPolicy) {
  const Config config = DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 2});
  const RunTrace cpu = TrainOnCpu(config, kSteps);
  const RunTrace eager = TrainOnDevice(OnDevice(config), kSteps, RunPolicy::kEager);
  ExpectNear(eager, cpu, 2e-5);
  for (const RunPolicy policy : emulation::kAllPolicies) {
    SCOPED_TRACE(emulation::NameOf(policy));
    EXPECT_TRUE(TrainOnDevice(OnDevice(config), kSteps, policy, 7) == eager);
  }
}

TEST(DeviceTraining, EveryKindOfModel) {
  for (SmallModel small : PresetKinds()) {
    if (small.layers == 5) small.layers = 2;
    if (small.sharing == Sharing::DENSE) small.experts = small.layers;
    if (small.sharing == Sharing::PRIVATE) small.experts = 3 * small.layers;
    if (small.balance == Balance::BIAS) small.coeff = 0.1;  // so that an update of it moves choices
    SCOPED_TRACE(NameOf(small));
    const Config config = DeviceConfigOf(small);
    ExpectNear(TrainOnDevice(OnDevice(config), kSteps, RunPolicy::kLate), TrainOnCpu(config, kSteps), 2e-5);
  }
}

TEST(DeviceTraining, Bf16FollowsTheCpu) {
  const Config config = DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 2});
  const RunTrace cpu = TrainOnCpu(config, 6);
  const RunTrace bf16 = TrainOnDevice(OnDevice(config, TrainConfig::AUTO), 6, RunPolicy::kLate);
  for (size_t step = 0; step < cpu.loss.size(); ++step) {
    EXPECT_NEAR(bf16.loss[step] / cpu.loss[step], 1, 0.02) << "step " << step;
    EXPECT_NE(bf16.loss[step], cpu.loss[step]) << "BF16 cannot give the numbers of F32";
  }
  EXPECT_LT(bf16.loss.back(), bf16.loss.front()) << "nothing was learnt";
}

TEST(DeviceTraining, RecomputationChangesNoBit) {
  Config config = OnDevice(DeviceConfigOf({.experts = 7, .layers = 2}), TrainConfig::BF16);
  const RunTrace kept = TrainOnDevice(config, kSteps, RunPolicy::kRandom);
  config.mutable_train()->set_recompute_attention(true);
  config.mutable_train()->set_recompute_experts(true);
  EXPECT_TRUE(TrainOnDevice(config, kSteps, RunPolicy::kRandom) == kept);
}

// What a step may wait for, and how often.
TEST(DeviceTraining, TheHostWaitsForRowCountsAndOnceForLossAndNorm) {
  const Config config = OnDevice(DeviceConfigOf({.experts = 7, .layers = 2}));
  OneRank one;
  AsyncDevice device(RunPolicy::kLate);
  TrainingEngine engine(config, one.world, {.device = &device});
  RunSteps(engine, config, 0, 2);
  device.ForgetRecords();
  const int64_t drains = device.records().num_drains;
  RunSteps(engine, config, 2, 3);
  std::map<std::string, int> waits;
  for (const AsyncDevice::HostWait& wait : device.records().host_waits) ++waits[wait.label.operation];
  const int slots = config.model().layers() * config.train().global_batch();
  const std::map<std::string, int> expected{
      {"row counts", slots}, {"loss and gradient norm", 1}, {"copy of the samples", 1}};
  EXPECT_EQ(waits, expected);
  EXPECT_EQ(device.records().num_drains, drains) << "the whole device was waited for in a step";
}

// Row counts are waited for while weight gradients of the other lane are enqueued, from the first slot on
// before which there were some: with one slot at a time the second after the first backward began, with banks
// of k slots when the first is full.
TEST(DeviceTraining, TheDeviceHasWorkWhileTheHostWaitsForRowCounts) {
  for (const int slots_at_once : {1, 2}) {
    Config config = OnDevice(DeviceConfigOf({.experts = 7, .layers = 2}));
    config.mutable_train()->set_weight_grad_slots(slots_at_once);
    const int layers = config.model().layers();
    const int first_covered = layers + (slots_at_once == 1 ? 1 : slots_at_once + 1);
    OneRank one;
    AsyncDevice device(RunPolicy::kLate);
    TrainingEngine engine(config, one.world, {.device = &device});
    RunSteps(engine, config, 0, 1);
    device.ForgetRecords();
    RunSteps(engine, config, 1, 2);
    int slot = 0;
    for (const AsyncDevice::HostWait& wait : device.records().host_waits) {
      if (std::string(wait.label.operation) == "loss and gradient norm") {
        EXPECT_GT(wait.operations_behind, 0) << "the update is not enqueued before the host waits";
      }
      if (std::string(wait.label.operation) != "row counts") continue;
      EXPECT_EQ(wait.label.slot, slot);
      EXPECT_EQ(wait.operations_behind > 0, slot >= first_covered) << "slot " << slot;
      ++slot;
    }
    EXPECT_EQ(slot, layers * config.train().global_batch());
  }
}

TEST(DeviceTraining, LaterStepsTakeNoMemoryAndMakeNoEvents) {
  for (const TrainConfig::Precision precision : {TrainConfig::FP32, TrainConfig::BF16}) {
    const Config config = OnDevice(DeviceConfigOf({.experts = 5, .layers = 2}), precision);
    OneRank one;
    AsyncDevice device(RunPolicy::kRandom);
    TrainingEngine engine(config, one.world, {.device = &device});
    RunSteps(engine, config, 0, 3);
    const AsyncDevice::Records before = device.records();
    const int64_t bytes = engine.parts().place.memory().peak_bytes();
    RunSteps(engine, config, 3, 6);
    const AsyncDevice::Records& after = device.records();
    EXPECT_EQ(after.num_allocations, before.num_allocations);
    EXPECT_EQ(after.num_pinned_allocations, before.num_pinned_allocations);
    EXPECT_EQ(after.num_events, before.num_events);
    EXPECT_EQ(after.num_commits, before.num_commits);
    EXPECT_EQ(after.num_frees, before.num_frees);
    EXPECT_EQ(engine.parts().place.memory().peak_bytes(), bytes);
    EXPECT_GT(after.num_operations, before.num_operations);
  }
}

// A device of the size planned for 8 slots, of which a tenth stays free.
TEST(DeviceTraining, SlotsABankGoByTheMemoryOfTheDevice) {
  Config config = OnDevice(DeviceConfigOf({.experts = 7, .layers = 3}));
  ASSERT_EQ(config.train().weight_grad_slots(), 0);
  config.mutable_train()->set_global_batch(8);  // 24 backward slots: as many as two banks of 12 hold
  Config eight = config;
  eight.mutable_train()->set_weight_grad_slots(8);
  const auto room = static_cast<int64_t>(
      static_cast<double>(PlanMemory(eight, {.data = 1}, 0, /*imbalance=*/2).total()) / 0.9);
  const auto slots = [](const Config& of, int64_t bytes) {
    OneRank one;
    AsyncDevice device(RunPolicy::kEager);
    device.SetTotalBytes(bytes);
    return TrainingEngine(of, one.world, {.device = &device}).parts().sizes.weight_grad_slots;
  };
  EXPECT_EQ(slots(config, room + 2), 8);
  EXPECT_EQ(slots(config, room - 2), 4);
  EXPECT_EQ(slots(config, 2 * room), 12);
  EXPECT_EQ(slots(config, 0), 4) << "a device that does not tell its size";
  config.mutable_train()->set_weight_grad_slots(3);
  EXPECT_EQ(slots(config, 2 * room), 3);
}

TEST(DeviceTraining, RangesShowStepSlotLaneAndOperation) {
  const Config config = OnDevice(DeviceConfigOf({.experts = 5, .layers = 2}));
  OneRank one;
  AsyncDevice device(RunPolicy::kEager);
  TrainingEngine engine(config, one.world, {.device = &device});
  RunSteps(engine, config, 0, 1);
  device.ForgetRecords();
  RunSteps(engine, config, 1, 2);
  std::map<std::string, int> ranges;
  int64_t in_lanes = 0, in_step = 0;
  for (const AsyncDevice::ClosedRange& range : device.records().ranges) {
    ++ranges[range.name];
    if (range.name == "step 1") in_step = range.num_operations;
    if (range.name.find("lane") != std::string::npos || range.name == "weight gradients") {
      in_lanes += range.num_operations;
      EXPECT_GE(range.depth, 1) << range.name;
    }
  }
  EXPECT_EQ(ranges["step 1"], 1);
  EXPECT_EQ(ranges["forward lane, microbatch 3, stage 0, layer 1: attention and router"], 1);
  EXPECT_EQ(ranges["backward lane, microbatch 0, stage 0, layer 0: experts"], 1);
  EXPECT_GT(in_step, 0);
  EXPECT_GT(static_cast<double>(in_lanes), 0.9 * static_cast<double>(in_step))
      << "work of a step that no lane's range tells of";
}

}  // namespace
}  // namespace unipool
