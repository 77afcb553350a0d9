// Shadows on an emulated device: what is dealt, sent and added there gives the losses of the CPU.
#include "parallel/shadow_placement.h"
#include "tests/models/device/device_run.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

struct Shadowed {
  RunTrace trace;
  int most_shadows = 0;
};

Shadowed TrainWithShadows(const Config& config, World& world, DeviceContext* device) {
  const std::optional<DType> dtype = device ? std::optional<DType>() : DType::kF32;
  TrainingEngine engine(config, world, {.dtype = dtype, .device = device, .shadows_are_free = true});
  Shadowed run;
  for (int64_t step = 0; step < 4; ++step) {
    const RunTrace one = RunSteps(engine, config, step, step + 1);
    run.trace.loss.push_back(one.loss[0]);
    run.trace.pool_loss.push_back(one.pool_loss[0]);
    run.trace.grad_norm.push_back(one.grad_norm[0]);
    engine.ReplaceExpertsIfDue(step + 1);
    run.most_shadows = std::max(run.most_shadows, NumShadows(engine.parts().placement));
  }
  return run;
}

TEST(DeviceShadowsWorld, LossesAreThoseOfTheCpu) {
  RunOnRanks([](World& world) {
    for (const int stages : {1, world.size()}) {
      SCOPED_TRACE(testing::Message() << stages << " stages");
      Config config = DeviceConfigOf({.balance = Balance::NONE, .experts = 7, .top_k = 2, .layers = 3});
      config.mutable_train()->set_global_batch(6);
      config.mutable_parallel()->set_stages(stages);
      config.mutable_parallel()->set_shadow_experts(2);
      config.mutable_parallel()->set_replace_every(1);
      const Shadowed cpu = TrainWithShadows(config, world, nullptr);
      AsyncDevice device(emulation::kAllPolicies[world.rank() % std::size(emulation::kAllPolicies)],
                         world.rank() + 1);
      const Shadowed shadowed = TrainWithShadows(OnDevice(config), world, &device);
      EXPECT_EQ(shadowed.most_shadows > 0, world.size() > 1);
      EXPECT_EQ(shadowed.most_shadows, cpu.most_shadows);
      ExpectNear(shadowed.trace, cpu.trace, 2e-5);
    }
  });
}

}  // namespace
}  // namespace unipool
