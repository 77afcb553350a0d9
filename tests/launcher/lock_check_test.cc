// Wrong uses of moe.lock, each with its sentence.
#include "launcher/lock_check.h"

#include <gmock/gmock.h>

#include "launcher/config.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// 4 layers, 32 experts: 8 for each layer.
std::vector<std::string> Check(std::vector<std::string> overrides, const std::string& assignment = "COUNTS") {
  overrides.push_back("moe.lock.assignment=" + assignment);
  return LockProblems(ParseConfig("", "empty", overrides));
}

TEST(LockCheck, GoodOnes) {
  EXPECT_THAT(Check({}), ElementsAre());
  EXPECT_THAT(Check({"moe.lock.entropy_target=1", "moe.top_k=8", "moe.experts=32"}), ElementsAre());
  EXPECT_THAT(Check({"moe.lock.entropy_end_fraction=0", "moe.lock.lock_fraction=0"}, "RANDOM"),
              ElementsAre());
  EXPECT_THAT(Check({"moe.sharing=PRIVATE", "moe.router=SOFTMAX"}, "NONE"), ElementsAre());
}

TEST(LockCheck, OnlyWhatItIsAMethodFor) {
  EXPECT_THAT(Check({"moe.router=SOFTMAX"}), ElementsAre("moe.router: is SOFTMAX; moe.lock needs NORM"));
  EXPECT_THAT(Check({"moe.sharing=PRIVATE"}), ElementsAre("moe.sharing: is PRIVATE; moe.lock needs GLOBAL"));
  EXPECT_THAT(Check({"moe.balance=BIAS"}), ElementsAre("moe.balance: is BIAS; moe.lock needs POOL_LOSS"));
  EXPECT_THAT(Check({"moe.balance_coeff=0"}), ElementsAre(HasSubstr("needs the pool loss")));
  EXPECT_THAT(Check({"model.layers=1", "moe.experts=8"}),
              ElementsAre(HasSubstr("gives experts to several layers")));
  EXPECT_THAT(Check({"moe.experts=30"}), ElementsAre(HasSubstr("a multiple of model.layers (4): 28 or 32")));
  EXPECT_THAT(Check({"moe.top_k=9"}), ElementsAre(HasSubstr("after moe.lock each layer has 8 experts")));
}

TEST(LockCheck, NumbersInTheirRanges) {
  EXPECT_THAT(Check({"moe.lock.entropy_target=9"}),
              ElementsAre(HasSubstr("entropy_target: is 9; must be from 1 to 8")));
  EXPECT_THAT(Check({"moe.lock.coverage=1.5", "moe.lock.ema_window=0", "moe.lock.ema_alpha=0",
                     "moe.lock.guard_consecutive=-1", "moe.lock.guard_excess=nan",
                     "moe.lock.entropy_coeff=-1", "moe.lock.lock_fraction=2"}),
              testing::SizeIs(7));
}

TEST(LockCheck, BoundariesInOrder) {
  EXPECT_THAT(Check({"train.steps=20"}),
              ElementsAre(HasSubstr(
                  "with train.steps 20 the owners would be decided at step 0 and locked at step 1")));
  EXPECT_THAT(Check({"moe.lock.lock_fraction=0.01"}), ElementsAre(HasSubstr("the second later")));
  EXPECT_THAT(Check({"moe.lock.entropy_end_fraction=0", "moe.lock.lock_fraction=0"}),
              ElementsAre(HasSubstr("the first must be at least 1")));
}

TEST(LockCheck, SettingsOfNoLockAreAMistake) {
  EXPECT_THAT(Check({"parallel.placement=OWNER_STAGE"}, "NONE"),
              ElementsAre(HasSubstr("only moe.lock gives experts owners")));
  EXPECT_THAT(Check({"parallel.placement=OWNER_STAGE"}), ElementsAre());
  EXPECT_THAT(Check({"moe.lock.coverage=0.9"}, "NONE"),
              ElementsAre(HasSubstr("no other setting of moe.lock has a use")));
}

}  // namespace
}  // namespace unipool
