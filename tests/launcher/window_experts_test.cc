#include "launcher/traffic/window_experts.h"

#include <gtest/gtest.h>

#include "tests/models/small_model.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

TEST(WindowExperts, SumsStepsAndOrdersByRows) {
  const ModelSpec spec = MakeModelSpec(ConfigOf({.experts = 3, .layers = 2}));
  Visibility visibility(spec);
  WindowExperts window;
  EXPECT_TRUE(window.empty());
  EXPECT_TRUE(window.ToJson().is_null());
  const ExpertPlacement placement({1, 0, 1}, 2);
  window.AddStep(std::vector<double>{1, 2, 0, 7, 0, 5}, placement, visibility);
  visibility.Set(1, std::vector<float>{1, 0, 1});
  window.AddStep(std::vector<double>{10, 20, 0, 70, 0, 1000}, placement, visibility);
  const Json json = window.ToJson();
  EXPECT_EQ(json["owner"], Json({1, 0, 1}));
  EXPECT_EQ(json["shadows"], Json::array());
  ASSERT_EQ(json["layers"].size(), 2U);
  EXPECT_EQ(json["layers"][0]["rows"], 33);
  EXPECT_EQ(json["layers"][0]["most"], Json({{1, 22}, {0, 11}}));
  EXPECT_EQ(json["layers"][0]["choosable"], 3);
  EXPECT_EQ(json["layers"][1]["rows"], 1082);
  EXPECT_EQ(json["layers"][1]["most"], Json({{2, 1005}, {0, 77}}));
  EXPECT_EQ(json["layers"][1]["choosable"], 2) << "as of the last step";
}

TEST(WindowExperts, NamesCopies) {
  const ModelSpec spec = MakeModelSpec(ConfigOf({.experts = 2, .layers = 1}));
  WindowExperts window;
  window.AddStep(std::vector<double>{1, 2},
                 ExpertPlacement({0, 1}, 2, {.of_rank = {{-1}, {0}}, .shares = {}}), Visibility(spec));
  EXPECT_EQ(window.ToJson()["shadows"], Json::array({Json({0, 1})}));
}

// A large pool: the sum is that of all experts, the list that of the busiest.
TEST(WindowExperts, ListsTheBusiestAlone) {
  const int experts = static_cast<int>(kMostExpertsInWindows) + 10;
  const ModelSpec spec = MakeModelSpec(ConfigOf({.experts = experts, .layers = 1}));
  std::vector<double> counts;
  for (int expert = 0; expert < experts; ++expert) counts.push_back(expert + 1);
  WindowExperts window;
  window.AddStep(counts, ContiguousPlacement(experts, 2), Visibility(spec));
  const Json json = window.ToJson();
  const Json& layer = json["layers"][0];
  EXPECT_EQ(layer["most"].size(), kMostExpertsInWindows);
  EXPECT_EQ(layer["most"][0], Json({experts - 1, experts}));
  EXPECT_EQ(layer["most"].back(), Json({10, 11}));
  EXPECT_EQ(layer["rows"], experts * (experts + 1) / 2);
  EXPECT_EQ(json["owner"].size(), static_cast<size_t>(experts));
}

}  // namespace
}  // namespace unipool
