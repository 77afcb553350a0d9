#include "launcher/reports/readable_number.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(ReadableNumber, CountsAndBytes) {
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(51200), "51.2K");
  EXPECT_EQ(FormatCount(999'949), "999.9K");
  EXPECT_EQ(FormatCount(999'950), "1.0M");
  EXPECT_EQ(FormatCount(999'949'999), "999.9M");
  EXPECT_EQ(FormatCount(999'950'000), "1.000B");
  EXPECT_EQ(FormatBytes(2'485'000'000), "2.485 GB");
  EXPECT_EQ(FormatBytes(790'000'000), "790.0 MB");
  EXPECT_EQ(FormatBytes(12), "12 B");
}

TEST(ReadableNumber, Durations) {
  EXPECT_EQ(FormatDuration(0.4), "0s");
  EXPECT_EQ(FormatDuration(59.6), "1m00s");
  EXPECT_EQ(FormatDuration(7384), "2h03m");
  EXPECT_EQ(FormatDuration(90061), "1d01h");
}

}  // namespace
}  // namespace unipool
