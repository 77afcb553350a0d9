// What the probe counts is what training counts of the same samples, on every layout; the ratio of norms
// against the logits written out.
#include "models/routing_probe.h"
#include "tests/models/layouts.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

struct Counted {
  std::vector<double> counts, mass, ratios;
};

Counted Count(const Config& config, World& world, int64_t sequences, std::vector<int64_t> kept) {
  TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate, .dtype = DType::kF64});
  RoutingProbe probe(engine.parts().spec, std::move(kept), nullptr);
  engine.parts().model.SetProbe(&probe);
  std::vector<int32_t> tokens;
  engine.EvaluateLossSum(SamplesOf(engine, config, 5, 0, tokens), sequences);
  engine.parts().model.SetProbe(nullptr);
  engine.EvaluateLossSum(SamplesOf(engine, config, 5, 0, tokens), sequences);  // it does not look any more
  probe.Reduce(*world.communicator);
  Counted counted{.counts = probe.counts(), .mass = probe.mass()};
  for (int l = 0; l < config.model().layers(); ++l) {
    EXPECT_EQ(probe.tokens(l), sequences * config.model().seq_length());
    counted.ratios.push_back(probe.norm_ratio(l));
  }
  return counted;
}

TEST(RoutingProbe, CountsWhatTrainingCounts) {
  const Config config =
      TrainingConfigOf({.router = RouterType::SOFTMAX, .balance = Balance::NONE, .experts = 7, .top_k = 2});
  OneRank one;
  const Counted counted = Count(config, one.world, config.train().global_batch(), {});
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  std::vector<int32_t> tokens;
  engine.TrainStep(0, 1e-3, SamplesOf(engine, config, 5, 0, tokens));
  EXPECT_EQ(counted.counts, engine.parts().use.statistics.step_counts());
  for (size_t i = 0; i < counted.mass.size(); ++i) {
    EXPECT_LE(counted.mass[i], counted.counts[i]);  // a softmax is at most 1
    EXPECT_EQ(counted.mass[i] > 0, counted.counts[i] > 0);
  }
  EXPECT_EQ(counted.ratios, std::vector<double>(5, 1.0));
}

TEST(RoutingProbe, ChoicesWithoutAScoreDoNotCount) {
  Config config = TrainingConfigOf({.experts = 7, .top_k = 5});  // about half of the logits are negative
  OneRank one;
  const Counted counted = Count(config, one.world, 12, {});
  double sum = 0;
  for (const double count : counted.counts) sum += count;
  EXPECT_LT(sum, 0.9 * 12 * 10 * 5 * 5);
  EXPECT_GT(sum, 0.4 * 12 * 10 * 5 * 5);
}

TEST(RoutingProbe, IsTheSameOnEveryLayoutAndLeavesPaddingOut) {
  RunOnRanks([](World& world) {
    const Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 4});
    OneRank one;
    const Counted expected = Count(config, one.world, 7, {0, 2, 3});
    for (const double ratio : expected.ratios) {
      EXPECT_GT(ratio, 0.3);
      EXPECT_LT(ratio, 0.99);
    }
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      const Counted counted = Count(Laid(config, layout), world, 7, {0, 2, 3});
      EXPECT_EQ(counted.counts, expected.counts);
      ExpectClose(counted.mass, expected.mass, 1e-9, "mass");
      ExpectClose(counted.ratios, expected.ratios, 1e-9, "ratios");
    }
  });
}

// By hand: two tokens' logits.
TEST(RoutingProbe, RatioOfNorms) {
  ModelSpec spec;
  spec.layers = 1;
  spec.experts = 3;
  spec.visible = {{1, 1, 1}};
  RoutingProbe probe(spec, {0, 2}, nullptr);
  std::vector<double> logits{3, 4, 0, 0, 1, -1}, weights{0.5, 0};
  std::vector<int32_t> experts{1, 2};
  const Router::Saved saved{.logits = Tensor(logits.data(), DType::kF64, {2, 3}),
                            .experts = Tensor(experts.data(), DType::kI32, {2, 1}),
                            .weights = Tensor(weights.data(), DType::kF64, {2, 1})};
  probe.Routed(0, saved, 2);
  EXPECT_NEAR(probe.norm_ratio(0), (3.0 / 5 + std::sqrt(0.5)) / 2, 1e-14);
  EXPECT_EQ(probe.counts(), (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(probe.mass(), (std::vector<double>{0, 0.5, 0}));
}

}  // namespace
}  // namespace unipool
