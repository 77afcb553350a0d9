// Training on an emulated device in every process of an MPI job, staged through pinned memory and MPI: the
// losses of the same job on the CPU.
#include "runtime/traffic_recorder.h"
#include "tests/models/device/device_run.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

TEST(DeviceTrainingWorld, ProcessesGiveTheLossesOfTheCpu) {
  RunOnRanks([](World& world) {
    for (const int stages : {1, world.size()}) {
      SCOPED_TRACE(testing::Message() << stages << " stages");
      Config config = DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 3});
      config.mutable_train()->set_global_batch(6);
      config.mutable_parallel()->set_stages(stages);
      const RunTrace cpu = Train(config, world, DType::kF32, 3);
      const Config device_config = OnDevice(config);
      AsyncDevice device(emulation::kAllPolicies[world.rank() % std::size(emulation::kAllPolicies)],
                         world.rank() + 1);
      TrainingEngine engine(device_config, world, {.device = &device});
      EXPECT_EQ(engine.parts().place.transport().find(world.is_mpi ? "transport: MPI" : "transport: THREADS"),
                0u)
          << engine.parts().place.transport();
      ExpectNear(RunSteps(engine, device_config, 0, 3), cpu, 2e-5);
    }
  });
}

using Bytes = std::map<std::string, std::vector<int64_t>>;  // operation: [world]

// A recorded run of `config` on the CPU, or on `device`.
RunTrace TrainRecorded(const Config& config, World& plain, DeviceContext* device, Bytes& bytes) {
  TrafficRecorder recorder({.rank = plain.rank(),
                            .node_of_rank = std::vector<int>(plain.size()),
                            .carrier = "test",
                            .board = nullptr,
                            .clock = {}});
  const auto recorded = recorder.RecordWorld(*plain.communicator, "world");
  World world = plain;
  world.communicator = recorded.get();
  RunTrace trace;
  {
    TrainingEngine engine(config, world, {.dtype = DType::kF32, .device = device, .recorder = &recorder});
    recorder.BeginStep(0);
    trace = RunSteps(engine, config, 0, 3);
    recorder.EndStep();
  }
  EXPECT_EQ(recorder.communicators()[1].name, "pool");
  EXPECT_EQ(recorder.communicators()[1].on_device, device != nullptr);
  for (const TrafficTally::Operation& operation : recorder.tally().operations()) {
    const TrafficCell& cell = operation.cells[recorder.tally().CellIndex(0, 1)];
    // Times of device memory are the device's.
    EXPECT_TRUE(cell.blocked_ns == 0 || !device || std::string(operation.name) == "counts");
    bytes[operation.name] = operation.bytes_to;
  }
  return trace;
}

TEST(DeviceTrainingWorld, RecordingChangesNoNumberAndCountsTheSameBytes) {
  RunOnRanks([](World& world) {
    Config config = DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 3});
    config.mutable_train()->set_global_batch(6);
    const Config device_config = OnDevice(config);
    Bytes on_cpu, on_device;
    TrainRecorded(config, world, nullptr, on_cpu);
    AsyncDevice device(emulation::kAllPolicies[0], world.rank() + 1);
    RunTrace plain;
    {
      TrainingEngine engine(device_config, world, {.dtype = DType::kF32, .device = &device});
      plain = RunSteps(engine, device_config, 0, 3);
    }
    EXPECT_EQ(TrainRecorded(device_config, world, &device, on_device), plain);
    for (const char* operation : {"dispatch forward", "dispatch backward", "combine forward", "counts"}) {
      EXPECT_EQ(on_device.count(operation), world.size() > 1 ? 1u : 0u) << operation;
      EXPECT_EQ(on_device[operation], on_cpu[operation]) << operation;
    }
  });
}

}  // namespace
}  // namespace unipool
