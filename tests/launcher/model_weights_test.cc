// The list is that of the engine, for every kind of model.
#include "launcher/interop/model_weights.h"

#include <gtest/gtest.h>

#include "launcher/config.h"
#include "launcher/interop/hf_tensors.h"
#include "models/training_engine.h"
#include "runtime/world.h"

namespace unipool {
namespace {

TEST(ModelWeights, AreThoseOfTheEngine) {
  for (const char* moe :
       {"", "sharing: GROUPED groups: 3 balance: BIAS", "router: SIGMOID balance: BIAS bias_scope: LAYER",
        "sharing: PRIVATE router: SOFTMAX", "sharing: DENSE experts: 3 balance: NONE"}) {
    const std::string text = moe;
    const Config config = ParseConfig(
        "model { layers: 3 hidden: 20 heads: 5 kv_heads: 1 seq_length: 8 vocab: 50 vocab_multiple: 64 }"
        "train { global_batch: 1 micro_batch: 1 } moe { width: 12 " +
            text + (text.find("experts:") == text.npos ? " experts: 6 }" : " }"),
        "settings");
    RunWorld({.num_threads = 1}, [&](World& world) {
      TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
      std::map<std::string, std::vector<int64_t>> expected;
      for (const DiskTensor& weight : engine.state().Weights()) expected[weight.name] = weight.shape;
      EXPECT_EQ(WeightShapes(engine.parts().spec, BiasNameOf(config)), expected) << moe;
    });
  }
}

}  // namespace
}  // namespace unipool
