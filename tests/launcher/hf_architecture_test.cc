// Which architecture computes what a model computes, and what keeps the others from it.
#include "launcher/interop/hf_architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::HasSubstr;

Config Model(const std::string& moe) {
  const bool has_experts = moe.find("experts:") != std::string::npos;
  return ParseConfig("model { layers: 3 } moe { " + moe + (has_experts ? " }" : " experts: 12 }"),
                     "settings");
}

TEST(HfArchitecture, TheFirstWithoutAnObstacleIsChosen) {
  const struct {
    const char* moe;
    HfArchitecture expected;
  } cases[] = {
      {"sharing: DENSE", HfArchitecture::kLlama},
      {"sharing: PRIVATE router: SOFTMAX", HfArchitecture::kQwen2Moe},
      {"sharing: PRIVATE router: SOFTMAX balance: LAYER_LOSS", HfArchitecture::kQwen2Moe},
      {"sharing: PRIVATE router: SOFTMAX balance: BIAS", HfArchitecture::kUniPool},
      {"sharing: PRIVATE router: NORM", HfArchitecture::kUniPool},
      {"sharing: PRIVATE router: SIGMOID", HfArchitecture::kUniPool},
      {"sharing: PRIVATE router: SOFTMAX experts: 13", HfArchitecture::kUniPool},
      {"sharing: GROUPED groups: 3 router: SOFTMAX", HfArchitecture::kUniPool},
      {"sharing: GLOBAL", HfArchitecture::kUniPool},
  };
  for (const auto& [moe, expected] : cases) {
    const Config config = Model(moe);
    const HfChoice choice = ChooseHfArchitecture(config, /*is_attenuated=*/false);
    EXPECT_EQ(ClassNameOf(choice.architecture), std::string(ClassNameOf(expected))) << moe;
    EXPECT_FALSE(choice.reason.empty()) << moe;
    EXPECT_EQ(ObstacleTo(expected, config, /*is_attenuated=*/false), "") << moe;
    EXPECT_EQ(ObstacleTo(HfArchitecture::kUniPool, config, /*is_attenuated=*/false), "") << moe;
    for (const HfArchitecture other : {HfArchitecture::kLlama, HfArchitecture::kQwen2Moe}) {
      EXPECT_EQ(ObstacleTo(other, config, /*is_attenuated=*/false).empty(), other == expected) << moe;
    }
  }
}

TEST(HfArchitecture, AnObstacleNamesItsSetting) {
  const auto obstacle = [](const std::string& moe) {
    return ObstacleTo(HfArchitecture::kQwen2Moe, Model(moe), /*is_attenuated=*/false);
  };
  EXPECT_THAT(ObstacleTo(HfArchitecture::kLlama, Model(""), /*is_attenuated=*/false),
              HasSubstr("moe.sharing is GLOBAL"));
  EXPECT_THAT(obstacle("sharing: DENSE"), HasSubstr("moe.sharing is DENSE"));
  EXPECT_THAT(obstacle("sharing: PRIVATE"), HasSubstr("moe.router is NORM"));
  EXPECT_THAT(obstacle("sharing: PRIVATE router: SOFTMAX balance: BIAS"), HasSubstr("moe.balance is BIAS"));
  EXPECT_THAT(obstacle("sharing: PRIVATE router: SOFTMAX experts: 13"), HasSubstr("13 experts in 3 layers"));
  const Config vanilla = Model("sharing: PRIVATE router: SOFTMAX");
  EXPECT_THAT(ObstacleTo(HfArchitecture::kQwen2Moe, vanilla, /*is_attenuated=*/true),
              HasSubstr("layers have given up experts"));
  EXPECT_EQ(ChooseHfArchitecture(vanilla, /*is_attenuated=*/true).architecture, HfArchitecture::kUniPool);
}

TEST(HfArchitecture, HasOneNameForPeopleAndFiles) {
  for (const HfArchitecture architecture : kAllHfArchitectures)
    EXPECT_EQ(HfArchitectureNamed(ModelTypeOf(architecture)), architecture);
  EXPECT_THROW(HfArchitectureNamed("mixtral"), UserError);
  EXPECT_THROW(HfArchitectureNamed(""), UserError);
}

}  // namespace
}  // namespace unipool
