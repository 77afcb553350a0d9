// Margins behind the last layer are those of the model's logits, as generation computes them; and they are
// the same on every layout.
#include "models/decision_margin.h"
#include "tests/models/layouts.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

OutputWeights WeightsOf(const Config& config) {
  OneRank one;
  TrainingEngine engine(config, one.world, {.mode = EngineMode::kEvaluate});
  OutputWeights output;
  for (const DiskTensor& tensor : engine.state().Weights()) {
    const auto* values = tensor.value.as<float>();
    if (tensor.name == "model.norm.weight") output.norm.assign(values, values + tensor.value.size());
    if (tensor.name == "lm_head.weight") output.head.assign(values, values + tensor.value.size());
  }
  return output;
}

// `weights` are of the same model, on one rank.
std::vector<double> Margins(const Config& config, const OutputWeights& weights, World& world,
                            int64_t sequences) {
  TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
  DecisionMargin margin(engine.parts().spec, weights, nullptr);
  engine.parts().model.SetProbe(&margin);
  std::vector<int32_t> tokens;
  engine.EvaluateLossSum(SamplesOf(engine, config, 5, 0, tokens), sequences);
  margin.Reduce(*world.communicator);
  std::vector<double> numbers;
  for (int l = 0; l < config.model().layers(); ++l) {
    numbers.push_back(margin.mean(l));
    numbers.push_back(margin.share_ahead(l));
  }
  return numbers;
}

TEST(DecisionMargin, OfTheLastLayerIsThatOfTheLogits) {
  const Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 3});
  OneRank one;
  const std::vector<double> margins = Margins(config, WeightsOf(config), one.world, 2);
  TrainingEngine engine(config, one.world, {.mode = EngineMode::kEvaluate});
  const int vocab = config.model().vocab();
  double sum = 0, ahead = 0;
  for (int sequence = 0; sequence < 2; ++sequence) {
    for (int position = 0; position < 10; ++position) {
      const auto* logits =
          engine.NextLogits(SampleToken(5, 0, sequence, position, vocab), position).as<float>();
      const int next = SampleToken(5, 0, sequence, position + 1, vocab);
      float other = -1e30F;
      for (int i = 0; i < vocab; ++i) {
        if (i != next) other = std::max(other, logits[i]);
      }
      sum += logits[next] - other;
      ahead += logits[next] > other;
    }
  }
  EXPECT_NEAR(margins[4], sum / 20, 1e-4);
  EXPECT_NEAR(margins[5], ahead / 20, 0.051);
  EXPECT_NE(margins[0], margins[4]);
}

TEST(DecisionMargin, IsTheSameOnEveryLayout) {
  RunOnRanks([](World& world) {
    const Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 4});
    OneRank one;
    const OutputWeights weights = WeightsOf(config);
    const std::vector<double> expected = Margins(config, weights, one.world, 7);
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      const std::vector<double> margins = Margins(Laid(config, layout), weights, world, 7);
      for (size_t i = 0; i < margins.size(); ++i) EXPECT_NEAR(margins[i], expected[i], 1e-4) << i;
    }
  });
}

}  // namespace
}  // namespace unipool
