// Forms of train.stop_at.
#include "launcher/run_control/stop_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "runtime/errors.h"

namespace unipool {
namespace {

using Clock = std::chrono::system_clock;

const Clock::time_point kStart = Clock::from_time_t(1'700'000'000);

int64_t SecondsOf(const std::string& text) {
  return Clock::to_time_t(ParseStopTime(text, kStart).value());
}

std::string WhyNot(const std::string& text) {
  try {
    ParseStopTime(text, kStart);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(StopTime, EmptyIsNone) {
  EXPECT_FALSE(ParseStopTime("", kStart));
}

TEST(StopTime, DurationsCountFromTheStart) {
  EXPECT_EQ(SecondsOf("3h30m"), 1'700'000'000 + 12'600);
  EXPECT_EQ(SecondsOf("90m"), 1'700'000'000 + 5400);
  EXPECT_EQ(SecondsOf("1d12h"), 1'700'000'000 + 129'600);
  EXPECT_EQ(SecondsOf("45s"), 1'700'000'045);
  EXPECT_EQ(SecondsOf("1d2h3m4s"), 1'700'000'000 + 93'784);
  EXPECT_EQ(SecondsOf("0s"), 1'700'000'000);
}

TEST(StopTime, EpochSeconds) {
  EXPECT_EQ(SecondsOf("1764612000"), 1'764'612'000);
  EXPECT_EQ(SecondsOf("999999999"), 999'999'999);
}

TEST(StopTime, WallTimeIsOfThisMachineUnlessZ) {
  setenv("TZ", "EST5", 1);
  tzset();
  EXPECT_EQ(SecondsOf("2026-12-01T18:00Z"), 1'796'148'000);
  EXPECT_EQ(SecondsOf("2026-12-01T18:00"), 1'796'148'000 + 5 * 3600);
  EXPECT_EQ(SecondsOf("2026-12-01 18:00:30"), 1'796'148'030 + 5 * 3600);
  EXPECT_EQ(WallTimeText(Clock::from_time_t(1'796'148'000)), "2026-12-01 13:00:00");
  EXPECT_EQ(SecondsOf("2028-02-29T00:00Z"), 1'835'395'200);
  unsetenv("TZ");
  tzset();
}

TEST(StopTime, WhatIsNoTimeIsRefusedWithTheForms) {
  for (const char* text : {"soon",
                           "600",
                           "3h30",
                           "h",
                           "3x",
                           "30m3h",
                           "3h3h",
                           "-3h",
                           "1.5h",
                           "nan",
                           "99999999999",
                           "9999999999h",
                           "40000d",
                           "2026-13-01T18:00",
                           "2026-02-29T18:00",
                           "2026-12-01T24:00",
                           "2026-12-01",
                           "2026-12-01T18",
                           "2026-12-01T18:00+01",
                           " 3h",
                           "3h ",
                           "1969-12-01T18:00Z",
                           "Z",
                           "-",
                           "--------------------"}) {
    EXPECT_THAT(WhyNot(text), testing::HasSubstr("train.stop_at: is \"" + std::string(text) + "\"")) << text;
    EXPECT_THAT(WhyNot(text), testing::HasSubstr("3h30m")) << text;
  }
  EXPECT_THAT(WhyNot("600"), testing::HasSubstr("a number without a unit"));
  EXPECT_THAT(WhyNot("3x"), testing::HasSubstr("'x' is no unit"));
  EXPECT_THAT(WhyNot("2026-02-29T18:00"), testing::HasSubstr("a time that does not exist"));
}

}  // namespace
}  // namespace unipool
