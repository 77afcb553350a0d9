#include "launcher/slurm/child_process.h"

#include <gmock/gmock.h>

#include <chrono>

namespace unipool {
namespace {

using testing::HasSubstr;

TEST(RunChild, GivesOutputErrorsAndCode) {
  const auto outcome = RunChild({"bash", "-c", "echo out; echo err >&2; exit 7"});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->exit_code, 7);
  EXPECT_EQ(outcome->out, "out\n");
  EXPECT_EQ(outcome->err, "err\n");
}

TEST(RunChild, ArgumentsMeanNothingToAShell) {
  const auto outcome = RunChild({"printf", "%s|", "$(id)", ";ls", "a b", "*"});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->out, "$(id)|;ls|a b|*|");
}

TEST(RunChild, ReadsMoreThanAPipeHolds) {
  const auto outcome =
      RunChild({"bash", "-c", "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero >&2"});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->out.size(), 300000U);
  EXPECT_EQ(outcome->err.size(), 300000U);
}

TEST(RunChild, EndsWhatTakesTooLong) {
  const auto begin = std::chrono::steady_clock::now();
  const auto outcome = RunChild({"sleep", "60"}, 1);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->exit_code, 124);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(RunChild, TellsOfSignalsAndMissingPrograms) {
  EXPECT_EQ(RunChild({"bash", "-c", "kill -9 $$"})->exit_code, 137);
  EXPECT_FALSE(RunChild({"there-is-no-such-program"}));
  EXPECT_FALSE(FindProgram("there-is-no-such-program"));
  EXPECT_THAT(FindProgram("bash").value_or(""), HasSubstr("/bash"));
}

}  // namespace
}  // namespace unipool
