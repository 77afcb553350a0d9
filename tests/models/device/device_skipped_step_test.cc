// The same on a device, where the update is enqueued before the host knows the numbers.
#include "tests/models/device/device_run.h"
#include "tests/models/skipped_step.h"

namespace unipool {
namespace {

TEST(DeviceSkippedStep, EveryKindOfModel) {
  for (SmallModel small : PresetKinds()) {
    if (small.layers == 5) small.layers = 2;
    if (small.sharing == Sharing::DENSE) small.experts = small.layers;
    if (small.sharing == Sharing::PRIVATE) small.experts = 3 * small.layers;
    SCOPED_TRACE(NameOf(small));
    const bool has_router = small.sharing != Sharing::DENSE;
    OneRank one;
    AsyncDevice device(RunPolicy::kLate, 1);
    const Config config = OnDevice(DeviceConfigOf(small), TrainConfig::BF16);
    const std::string part = has_router ? "layers.1.mlp.router.weight" : "lm_head";
    CheckSkippedStep(config, one.world, {.device = &device}, {part, std::nanf("")});
  }
}

TEST(DeviceSkippedStep, WhereverTheNumberIsLost) {
  const Config config = OnDevice(DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 2}));
  OneRank one;
  AsyncDevice device(RunPolicy::kRandom, 3);
  for (const char* part : {"embed_tokens", "down_proj", "lm_head"}) {
    CheckSkippedStep(config, one.world, {.device = &device}, {part, std::nanf("")});
  }
}

}  // namespace
}  // namespace unipool
