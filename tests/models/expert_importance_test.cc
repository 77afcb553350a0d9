// NormRouter's scores are sigma times numbers that do not depend on sigma. So the importance of a layer's
// experts adds up to sigma * d(loss) / d(sigma), whatever the routing was.
#include "models/expert_importance.h"

#include <gtest/gtest.h>

#include "tests/models/training_run.h"

namespace unipool {
namespace {

// (value, gradient) of a layer's sigma, a parameter of one number.
std::pair<double, double> SigmaOf(EngineParts& parts, int layer) {
  const DenseParameters& parameters = parts.model.parameters();
  const std::string name = Format("model.layers.%d.mlp.router.scale", layer);
  for (const DenseParameter& parameter : parameters.list()) {
    if (parameter.name != name) continue;
    const int64_t at = parameter.elements.begin;
    return {parameters.flat_master().as<double>()[at], parameters.flat_grads().as<double>()[at]};
  }
  ADD_FAILURE() << "no " << name;
  return {};
}

TEST(ExpertImportance, AddsUpToWhatTheLossDependsOnTheScale) {
  Config config = ConfigOf({.balance = Balance::NONE, .experts = 7, .top_k = 2, .layers = 3});
  OneRank one;
  TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
  std::vector<int32_t> tokens;
  for (const int64_t step : {0, 1}) {  // the second step begins at zero again
    engine.ForwardBackward(step, SamplesOf(engine, config, 5, step, tokens));
    for (int layer = 0; layer < 3; ++layer) {
      const Tensor importance = engine.parts().use.importance.of(layer);
      double sum = 0, largest = 0;
      for (int i = 0; i < 7; ++i) {
        sum += importance.as<double>()[i];
        largest = std::max(largest, std::abs(importance.as<double>()[i]));
      }
      const auto [sigma, dsigma] = SigmaOf(engine.parts(), layer);
      EXPECT_GT(largest, 1e-6) << "layer " << layer;
      EXPECT_NEAR(sum, sigma * dsigma, 1e-12) << "layer " << layer;
    }
  }
}

TEST(ExpertImportance, LeavesTheBalancingLossOut) {
  std::vector<double> importance[2];
  for (const double coeff : {0.0, 100.0}) {
    Config config = ConfigOf({.router = RouterType::SOFTMAX,
                              .balance = Balance::LAYER_LOSS,
                              .experts = 5,
                              .layers = 1,
                              .coeff = coeff});
    OneRank one;
    TrainingEngine engine(config, one.world, {.dtype = DType::kF64});
    std::vector<int32_t> tokens;
    engine.ForwardBackward(0, SamplesOf(engine, config, 5, 0, tokens));
    const Tensor all = engine.parts().use.importance.all();
    importance[coeff > 0].assign(all.as<double>(), all.as<double>() + all.size());
  }
  EXPECT_EQ(importance[0], importance[1]);
}

}  // namespace
}  // namespace unipool
