#include "launcher/shadow_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Config With(int shadows) {
  Config config;
  config.mutable_moe()->set_experts(32);
  config.mutable_parallel()->set_shadow_experts(shadows);
  return config;
}

TEST(ShadowCheck, NoMoreThanOthersOwn) {
  EXPECT_THAT(ShadowProblems(With(0), 4), IsEmpty());
  EXPECT_THAT(ShadowProblems(With(24), 4), IsEmpty());
  EXPECT_THAT(
      ShadowProblems(With(25), 4),
      ElementsAre("parallel.shadow_experts: is 25, but of the 32 experts a rank owns 8 already, so that "
                  "it can have copies of 24 others at most"));
  EXPECT_THAT(ShadowProblems(With(25), 1), IsEmpty()) << "one rank owns everything";
  EXPECT_THAT(ShadowProblems(With(-2), 4),
              ElementsAre("parallel.shadow_experts: is -2; must be at least 0, or -1 (auto)"));
}

TEST(ShadowCheck, RanksOfOneCopyOfThePool) {
  Config config = With(20);
  EXPECT_THAT(ShadowProblems(config, 4), IsEmpty());
  config.mutable_parallel()->set_pool_replicas(2);  // two ranks share a copy
  EXPECT_THAT(
      ShadowProblems(config, 4),
      ElementsAre("parallel.shadow_experts: is 20, but of the 32 experts a rank owns 16 already, so that "
                  "it can have copies of 16 others at most"));
}

}  // namespace
}  // namespace unipool
