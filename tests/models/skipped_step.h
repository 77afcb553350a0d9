// A step that must be skipped, and what it must leave.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "tests/models/rank_state.h"
#include "tests/models/training_run.h"

namespace unipool {

// A value in one element of every weight whose name contains `part`.
struct Planted {
  std::string part;
  float value;
};

// Loss, router, experts, residual stream: wherever a number that is none appears first.
inline std::vector<Planted> PlantedValues(bool has_router) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  std::vector<Planted> list = {{"embed_tokens", nan}, {"layers.0.post_attention_layernorm", nan},
                               {"down_proj", inf},    {"q_proj", inf},
                               {"lm_head", nan},      {"", 1e38f}};
  if (has_router) list.push_back({"layers.1.mlp.router.weight", nan});
  return list;
}

inline void Plant(const Planted& planted, Memory& memory) {
  int found = 0;
  for (auto& [name, bytes] : memory) {
    const bool is_weight = name.find("weight") != std::string::npos && name.find('/') == std::string::npos;
    if (!is_weight || name.find(planted.part) == std::string::npos) continue;
    for (size_t at = 0; at < bytes.size(); at += 4 * 5) std::memcpy(&bytes[at], &planted.value, 4);
    ++found;
  }
  ASSERT_GT(found, 0) << "no weight is named like " << planted.part;
}

// Three steps, then one that has the planted value in it: it says so and changes no bit. Without the value
// the run then goes on as if that step had not been. F32 weights; collective.
inline void CheckSkippedStep(const Config& config, World& world, const EngineOptions& options,
                             const Planted& planted) {
  SCOPED_TRACE(testing::Message() << planted.value << " in " << planted.part);
  Memory before;
  RunTrace expected;
  {
    TrainingEngine engine(config, world, options);
    RunSteps(engine, config, 0, 3);
    engine.state().Collect();
    before = Gather(engine, world);
    expected = RunSteps(engine, config, 4, 6);
  }
  TrainingEngine engine(config, world, options);
  RunSteps(engine, config, 0, 3);
  engine.state().Collect();
  Memory with_value = before;
  Plant(planted, with_value);
  Restore(engine, with_value);
  std::vector<int32_t> tokens;
  const StepReport report =
      engine.TrainStep(3, config.train().lr(), SamplesOf(engine, config, 2024, 3, tokens));
  EXPECT_TRUE(report.is_skipped);
  EXPECT_FALSE(std::isfinite(report.loss) && std::isfinite(report.grad_norm));
  engine.state().Collect();
  const Memory after = Gather(engine, world);
  ASSERT_EQ(after.size(), with_value.size());
  for (const auto& [name, bytes] : with_value) EXPECT_TRUE(after.at(name) == bytes) << name << " has moved";
  Restore(engine, before);
  EXPECT_EQ(RunSteps(engine, config, 4, 6), expected);
}

}  // namespace unipool
