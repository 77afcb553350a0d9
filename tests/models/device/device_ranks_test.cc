// Several ranks, each with an emulated device of its own, through pinned memory: the numbers of one rank on
// the CPU, whatever the layout and however late the devices are.
#include <gtest/gtest.h>

#include "models/output_head.h"
#include "models/parameter_count.h"
#include "tests/models/device/device_run.h"
#include "tests/models/rank_state.h"

namespace unipool {
namespace {

constexpr int64_t kSteps = 3;

struct Layout {
  int ranks = 2, stages = 1, replicas = 1;
  ParallelConfig::Experts experts = ParallelConfig::POOL;
  BalanceScope::Value scope = BalanceScope::STEP;
  ParallelConfig::Head head = ParallelConfig::AUTO_HEAD;  // which is LAST_STAGE
};

std::string NameOf(const Layout& layout) {
  return Format("%d ranks, %d stages, %d replicas, %s, %s, %s", layout.ranks, layout.stages, layout.replicas,
                ParallelConfig::Experts_Name(layout.experts).c_str(),
                BalanceScope::Value_Name(layout.scope).c_str(),
                ParallelConfig::Head_Name(layout.head).c_str());
}

Config ConfigFor(const Layout& layout) {
  Config config = DeviceConfigOf({.scope = layout.scope, .experts = 7, .top_k = 2, .layers = 3});
  config.mutable_train()->set_global_batch(8);
  config.mutable_parallel()->set_stages(layout.stages);
  config.mutable_parallel()->set_pool_replicas(layout.replicas);
  config.mutable_parallel()->set_experts(layout.experts);
  config.mutable_parallel()->set_head(layout.head);
  return config;
}

// body(rank's world, its device) on every rank. The seed and the policy differ from rank to rank and from mix
// to mix.
void OnDevices(int ranks, const std::function<void(World&, AsyncDevice&)>& body, int mix = 0) {
  const int exit_code = RunWorld({.num_threads = ranks}, [&](World& world) {
    constexpr size_t kPolicies = std::size(emulation::kAllPolicies);
    AsyncDevice device(emulation::kAllPolicies[(world.rank() + ranks + 2 * mix) % kPolicies],
                       world.rank() + 11 + 100 * mix);
    body(world, device);
  });
  EXPECT_EQ(exit_code, 0);
}

// The device of rank 1 is the smaller one.
TEST(DeviceRanks, TheSmallestDeviceDecidesOnSizesForAll) {
  const Config config = OnDevice(ConfigFor({}));
  const int64_t most_logits[] = {int64_t{1} << 28, int64_t{1} << 30};
  std::vector<int> slots(2);
  std::vector<int64_t> tokens(2);
  for (const bool all_are_large : {true, false}) {
    OnDevices(2, [&](World& world, AsyncDevice& device) {
      device.SetTotalBytes(all_are_large || world.rank() == 0 ? int64_t{1} << 40 : 1);
      const TrainingEngine engine(config, world, {.device = &device});
      slots[world.rank()] = engine.parts().sizes.weight_grad_slots;
      tokens[world.rank()] = engine.parts().sizes.head_tokens;
    });
    EXPECT_EQ(slots, std::vector<int>(2, all_are_large ? 12 : 4));
    EXPECT_EQ(tokens,
              std::vector<int64_t>(2, OutputHead::MostTokens(PaddedVocab(config.model()),
                                                             most_logits[all_are_large], Device::kCuda)));
  }
}

RunTrace TrainOnDevices(int ranks, const Config& config, int mix) {
  RunTrace trace;
  OnDevices(
      ranks,
      [&](World& world, AsyncDevice& device) {
        TrainingEngine engine(config, world, {.device = &device});
        const RunTrace own = RunSteps(engine, config, 0, kSteps);
        if (world.rank() == 0) trace = own;  // the same on all
      },
      mix);
  return trace;
}

TEST(DeviceRanks, EveryLayoutGivesTheLossesOfOneRank) {
  for (const Layout& layout :
       {Layout{.ranks = 2}, Layout{.ranks = 3}, Layout{.ranks = 2, .stages = 2},
        Layout{.ranks = 4, .stages = 2, .scope = BalanceScope::MICROBATCH}, Layout{.ranks = 2, .replicas = 2},
        Layout{.ranks = 4, .stages = 2, .experts = ParallelConfig::PER_STAGE},
        Layout{.ranks = 2, .stages = 2, .head = ParallelConfig::SPREAD}}) {
    SCOPED_TRACE(NameOf(layout));
    const Config config = ConfigFor(layout);
    Config alone = config;
    alone.mutable_parallel()->clear_stages();
    alone.mutable_parallel()->clear_pool_replicas();
    if (layout.ranks == 3) alone.mutable_train()->set_global_batch(9);
    Config device_config = OnDevice(config);
    device_config.mutable_train()->set_global_batch(alone.train().global_batch());
    // MICROBATCH's statistics depend on what a microbatch is: all ranks' together.
    RunTrace expected;
    if (layout.scope == BalanceScope::STEP) expected = TrainOnCpu(alone, kSteps);
    OnDevices(layout.ranks, [&](World& world, AsyncDevice& device) {
      TrainingEngine engine(device_config, world, {.device = &device});
      const RunTrace trace = RunSteps(engine, device_config, 0, kSteps);
      EXPECT_EQ(engine.parts().place.transport().find("transport: THREADS"), 0u)
          << engine.parts().place.transport();
      if (layout.scope == BalanceScope::STEP) {
        ExpectNear(trace, expected, 2e-5);
        return;
      }
      Config cpu = config;
      RunTrace host;
      {
        TrainingEngine host_engine(cpu, world);
        host = RunSteps(host_engine, cpu, 0, kSteps);
      }
      ExpectNear(trace, host, 2e-5);
    });
  }
}

// Every rank computes with copies of weights that others have updated.
TEST(DeviceRanks, Bf16FollowsTheCpuWithTheSameBitsInEveryOrder) {
  for (const Layout& layout :
       {Layout{.ranks = 2}, Layout{.ranks = 4, .stages = 2}, Layout{.ranks = 2, .replicas = 2},
        Layout{.ranks = 4, .stages = 2, .head = ParallelConfig::SPREAD}}) {
    SCOPED_TRACE(NameOf(layout));
    const Config config = ConfigFor(layout);
    Config alone = config;
    alone.mutable_parallel()->clear_stages();
    alone.mutable_parallel()->clear_pool_replicas();
    const RunTrace cpu = TrainOnCpu(alone, kSteps);
    const RunTrace run = TrainOnDevices(layout.ranks, OnDevice(config, TrainConfig::BF16), 0);
    for (int step = 0; step < kSteps; ++step) {
      EXPECT_NEAR(run.loss[step] / cpu.loss[step], 1, 2e-3) << "step " << step;
    }
    EXPECT_TRUE(TrainOnDevices(layout.ranks, OnDevice(config, TrainConfig::BF16), 1) == run);
  }
}

// Exchanges under way name memory of the rank that fails: nothing may be given back before the job has ended.
TEST(DeviceRanksDeathTest, ADeviceWithoutMemoryEndsTheJobWithASentence) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const int commits : {0, 3, 9, 14, 20, 27}) {
    const auto run = [commits] {
      const Config config = OnDevice(ConfigFor({.ranks = 3}));
      Config fitting = config;
      fitting.mutable_train()->set_global_batch(9);
      std::exit(RunWorld({.num_threads = 3}, [&](World& world) {
        AsyncDevice device(RunPolicy::kLate, world.rank());
        TrainingEngine engine(fitting, world, {.device = &device});
        if (world.rank() == 1) device.RunOutAfter(commits);
        RunSteps(engine, fitting, 0, kSteps);
      }));
    };
    SCOPED_TRACE(commits);
    EXPECT_EXIT(run(), testing::ExitedWithCode(kUserErrorExitCode),
                "^error: rank 1: no memory left on the emulated device");
  }
}

// Rows for the experts leave behind the router alone: not behind weight gradients, which the compute queue
// was given while the host waited for the counts.
TEST(DeviceRanks, DispatchDoesNotWaitForWeightGradients) {
  Config config = OnDevice(ConfigFor({}));
  config.mutable_train()->set_weight_grad_slots(1);
  const int exit_code = RunWorld({.num_threads = 2}, [&](World& world) {
    AsyncDevice device(RunPolicy::kLate);
    TrainingEngine engine(config, world, {.device = &device});
    RunSteps(engine, config, 0, 1);
    device.ForgetRecords();
    RunSteps(engine, config, 1, 2);
    std::vector<int64_t> counted;  // what the compute queue had done when a slot's counts were there
    for (const AsyncDevice::HostWait& wait : device.records().host_waits) {
      if (std::string(wait.label.operation) == "row counts") counted.push_back(wait.compute_needed);
    }
    bool is_beside = false;
    int num_beside = 0;
    size_t slot = 0;
    for (const AsyncDevice::ClosedRange& range : device.records().ranges) {
      if (range.name.find("attention and router") != std::string::npos) is_beside = false;
      if (range.name == "weight gradients" && range.num_operations > 0) is_beside = true;
      if (range.name.find("row counts and dispatch") == std::string::npos) continue;
      // The mark behind the router is one more moment than the counts.
      EXPECT_LE(range.compute_awaited, counted.at(slot) + 1) << "slot " << slot;
      num_beside += is_beside;
      ++slot;
    }
    EXPECT_EQ(slot, counted.size());
    EXPECT_GT(num_beside, 3);
  });
  EXPECT_EQ(exit_code, 0);
}

}  // namespace
}  // namespace unipool
