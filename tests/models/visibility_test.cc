// What layers may use, while it changes: the factors, who hears of them, and their way to files and back.
#include "models/visibility.h"

#include <gmock/gmock.h>

#include "runtime/errors.h"
#include "tests/models/reference_model.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelSpec SpecOf(const SmallModel& small) {
  return MakeModelSpec(ConfigOf(small));
}

TEST(Visibility, BeginsAsTheSettingsSay) {
  const ModelSpec spec = SpecOf({.sharing = Sharing::PRIVATE, .experts = 4, .layers = 2});
  Visibility visibility(spec);
  EXPECT_THAT(visibility.of(1), ElementsAre(0, 0, 1, 1));
  EXPECT_TRUE(visibility.is_as_set(0));
  for (const DiskTensor& tensor : visibility.DiskTensors()) {
    EXPECT_TRUE(tensor.implied && tensor.optional) << tensor.name;
  }
}

TEST(Visibility, FactorsReachOnlyWhatALayerSees) {
  const ModelSpec spec = SpecOf({.sharing = Sharing::PRIVATE, .experts = 4, .layers = 2});
  Visibility visibility(spec);
  visibility.Set(1, std::vector<float>{1, 1, 0, 0.5});
  EXPECT_THAT(visibility.of(1), ElementsAre(0, 0, 0, 0.5));
  EXPECT_FALSE(visibility.may_choose(1, 2));
  EXPECT_EQ(visibility.num_choosable(1), 1);
  EXPECT_FALSE(visibility.is_as_set(1));
  EXPECT_TRUE(visibility.is_as_set(0));
  EXPECT_FALSE(visibility.is_as_set());
  const std::vector<DiskTensor> tensors = visibility.DiskTensors();
  EXPECT_EQ(tensors[1].name, "model.layers.1.mlp.router.attenuation");
  EXPECT_TRUE(tensors[0].implied);
  EXPECT_FALSE(tensors[1].implied);
  visibility.Reset();
  EXPECT_TRUE(visibility.is_as_set(1));
  EXPECT_TRUE(visibility.is_as_set());
}

TEST(Visibility, GroupsCountWhatTheirLayersMayChoose) {
  const ModelSpec spec = SpecOf({.experts = 4, .layers = 2});
  Visibility visibility(spec);
  visibility.Set(0, std::vector<float>{1, 1, 0, 0});
  EXPECT_EQ(BalanceGroupsOf(spec, visibility)[0].experts, 4) << "the other layer may choose all";
  visibility.Set(1, std::vector<float>{0, 0.1f, 1, 0});
  const BalanceGroup group = BalanceGroupsOf(spec, visibility)[0];
  EXPECT_EQ(group.experts, 3);
  EXPECT_EQ(group.chooses, (std::vector<bool>{true, true, true, false}));
}

std::string WhyRefused(const Visibility& visibility) {
  try {
    visibility.CheckLoaded();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Visibility, RefusesDamagedFactors) {
  const ModelSpec spec = SpecOf({.sharing = Sharing::PRIVATE, .experts = 4, .layers = 2});
  Visibility visibility(spec);
  EXPECT_EQ(WhyRefused(visibility), "");
  auto* factors = visibility.DiskTensors()[0].value.as<float>();
  factors[0] = 1.5;
  EXPECT_THAT(WhyRefused(visibility), HasSubstr("layers.0.mlp.router.attenuation: holds a factor"));
  factors[0] = factors[1] = 0;
  EXPECT_THAT(WhyRefused(visibility), HasSubstr("leaves the layer 0 experts; moe.top_k is 1"));
  factors[0] = factors[2] = 1;  // of the other layer
  EXPECT_THAT(WhyRefused(visibility), HasSubstr("that the layer does not see"));
}

// An engine whose layers lose experts computes what the plain formulas say, and its tensors make another
// engine compute the same.
class AttenuatedModel : public testing::TestWithParam<RouterType::Value> {
 protected:
  static double LossSum(TrainingEngine& engine, std::vector<int32_t>& sample) {
    const Tensor view(sample.data(), DType::kI32, {1, 1, static_cast<int64_t>(sample.size())});
    return engine.EvaluateLossSum(view, 1);
  }
};

TEST_P(AttenuatedModel, ComputesTheFormulasAndSurvivesItsFiles) {
  Config config = ConfigOf({.router = GetParam(), .experts = 7, .top_k = 2, .layers = 3});
  OneRank one, other;
  const EngineOptions options{.mode = EngineMode::kEvaluate, .dtype = DType::kF64};
  TrainingEngine engine(config, one.world, options), copy(config, other.world, options);
  std::vector<int32_t> sample;
  for (int i = 0; i <= config.model().seq_length(); ++i)
    sample.push_back(SampleToken(5, 0, 0, i, config.model().vocab()));
  const double before = LossSum(engine, sample);
  engine.parts().use.visibility.Set(0, std::vector<float>{1, 0, 0.5f, 0, 1, 1, 0.25f});
  engine.parts().use.visibility.Set(2, std::vector<float>{0, 0, 0, 1, 1, 0, 0});
  engine.parts().use.VisibilityChanged();
  const double expected =
      ReferenceModel(config, engine.state().ModelTensors()).Forward(sample.data()).loss_sum;
  const double after = LossSum(engine, sample);
  EXPECT_NEAR(after, expected, 1e-12 * expected);
  EXPECT_GT(std::abs(after - before), 1e-6) << "it takes effect";

  const std::vector<DiskTensor> from = engine.state().ModelTensors(), to = copy.state().ModelTensors();
  ASSERT_EQ(from.size(), to.size());
  for (size_t i = 0; i < from.size(); ++i)
    std::memcpy(to[i].value.data, from[i].value.data, from[i].value.bytes());
  copy.state().WeightsLoaded();
  EXPECT_EQ(LossSum(copy, sample), after);
  engine.parts().use.visibility.Reset();
  engine.parts().use.VisibilityChanged();
  EXPECT_EQ(LossSum(engine, sample), before) << "and it can be taken back";
}

INSTANTIATE_TEST_SUITE_P(Routers, AttenuatedModel,
                         testing::Values(RouterType::NORM, RouterType::SOFTMAX, RouterType::SIGMOID));

}  // namespace
}  // namespace unipool
