// Training on an emulated device in every process of an MPI job, staged through pinned memory and MPI: the
// losses of the same job on the CPU.
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

}  // namespace
}  // namespace unipool
