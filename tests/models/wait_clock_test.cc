// Times that a rank books while it waits for others.
#include "models/wait_clock.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(WaitClock, AddsUpWhatWorkTakes) {
  double now = 5;
  WaitClock clock([&] { return now; });
  clock.Time([&] { now += 2; });
  now += 100;  // between two pieces of work
  clock.Time([&] { now += 0.5; });
  EXPECT_EQ(clock.seconds(), 2.5);
  clock.Reset();
  EXPECT_EQ(clock.seconds(), 0);
  WaitClock silent;
  bool has_run = false;
  silent.Time([&] { has_run = true; });
  EXPECT_TRUE(has_run);
  EXPECT_EQ(silent.seconds(), 0);
}

}  // namespace
}  // namespace unipool
