// The importance of a training run is the same on every layout up to rounding, and a continued run's is the
// same bit for bit.
#include "models/importance_history.h"
#include "tests/models/layouts.h"
#include "tests/models/rank_state.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int64_t kSaved = 14, kSteps = 23;  // both amid a window

SmallModel Small() {
  return {.experts = 7, .top_k = 2, .layers = 4};
}

std::vector<double> Trained(const Config& config, World& world) {
  TrainingEngine engine(config, world, {.dtype = DType::kF64});
  RunSteps(engine, config, 0, kSteps);
  const ImportanceHistory& history = engine.parts().use.history;
  std::vector<double> numbers = history.Mean();
  for (const double ucb : history.Ucb()) numbers.push_back(ucb);
  for (const double count : history.Counts()) numbers.push_back(count);
  numbers.push_back(history.EffectiveExperts());
  return numbers;
}

TEST(ImportanceHistory, IsTheSameOnEveryLayout) {
  RunOnRanks([](World& world) {
    const Config config = TrainingConfigOf(Small());
    OneRank one;
    const std::vector<double> expected = Trained(config, one.world);
    EXPECT_GT(*std::max_element(expected.begin(), expected.begin() + 28), 1e-4);
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      ExpectClose(Trained(Laid(config, layout), world), expected, 1e-7, "importance");
    }
  });
}

TEST(ImportanceHistory, OfAContinuedRunIsTheSameBitForBit) {
  RunOnRanks([](World& world) {
    Config config = TrainingConfigOf(Small());
    if (world.size() % 2 == 0) config.mutable_parallel()->set_stages(2);
    Memory saved, expected;
    {
      TrainingEngine engine(config, world);
      RunSteps(engine, config, 0, kSaved);
      engine.state().Collect();
      saved = Gather(engine, world);
      RunSteps(engine, config, kSaved, kSteps);
      engine.state().Collect();
      expected = Gather(engine, world);
    }
    config.mutable_train()->set_seed(777);
    TrainingEngine engine(config, world);
    RunSteps(engine, config, 0, 3);  // another history
    Restore(engine, saved);
    RunSteps(engine, config, kSaved, kSteps);
    engine.state().Collect();
    const Memory continued = Gather(engine, world);
    ASSERT_EQ(expected.count("state/importance.v1"), 1u);
    for (const char* name : {"state/importance.v1", "state/importance.v1.steps"}) {
      EXPECT_EQ(continued.at(name), expected.at(name)) << name;
      EXPECT_NE(saved.at(name), expected.at(name)) << name;
    }
  });
}

}  // namespace
}  // namespace unipool
