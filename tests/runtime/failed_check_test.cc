// A failed CHECK tells its words before the process ends.
#include "runtime/failed_check.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <cstdio>

namespace unipool {
namespace {

TEST(FailedCheckActsDeathTest, TellsTheWordsOfTheCheck) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto fail = [] {
    const FailedCheckActs acts(
        [](const JobEnd& end) { std::fprintf(stderr, "told %d: %s\n", end.exit_code, end.reason.c_str()); },
        [] { std::fputs("last act\n", stderr); });
    CHECK_EQ(1, 2) << "in a test";
  };
  EXPECT_EXIT(
      fail(), testing::KilledBySignal(SIGABRT),
      "told 134: failed_check_test.cc:[0-9]+: Check failed: 1 == 2 \\(1 vs. 2\\) in a test\nlast act");
}

}  // namespace
}  // namespace unipool
