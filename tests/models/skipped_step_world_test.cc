// A step whose loss or gradient norm is no number changes nothing, in every kind of model and layout, on all
// ranks alike.
#include "tests/models/skipped_step.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

void CheckModel(const SmallModel& small, const std::vector<Planted>& values, int stages) {
  RunOnRanks([&](World& world) {
    SCOPED_TRACE(NameOf(small) + ", stages " + std::to_string(stages));
    Config config = TrainingConfigOf(small);
    config.mutable_parallel()->set_stages(stages);
    for (const Planted& planted : values) CheckSkippedStep(config, world, {}, planted);
  });
}

TEST(SkippedStep, EveryKindOfModelWhereverTheNumberIsLost) {
  for (const SmallModel& small : PresetKinds()) {
    CheckModel(small, PlantedValues(small.sharing != Sharing::DENSE), 1);
  }
}

TEST(SkippedStep, EveryScopeOfThePoolLossAndEveryNumberOfStages) {
  for (const BalanceScope::Value scope : {BalanceScope::STEP, BalanceScope::MICROBATCH, BalanceScope::RANK}) {
    for (int stages = 1; stages <= NumTestRanks(); ++stages) {
      if (NumTestRanks() % stages != 0) continue;
      CheckModel({.scope = scope, .experts = 7},
                 {{"lm_head", std::nanf("")}, {"layers.0.mlp.router", std::nanf("")}}, stages);
    }
  }
}

// What is counted for the next placement stays too.
TEST(SkippedStep, CountsOfThePlacement) {
  RunOnRanks([](World& world) {
    Config config = TrainingConfigOf({.experts = 7, .top_k = 2});
    config.mutable_parallel()->set_placement(ParallelConfig::SLOT_AWARE);
    config.mutable_parallel()->set_replace_every(100);
    CheckSkippedStep(config, world, {}, {"down_proj", std::nanf("")});
  });
}

}  // namespace
}  // namespace unipool
