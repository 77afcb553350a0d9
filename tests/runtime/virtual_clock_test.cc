#include "runtime/virtual_clock.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace unipool {
namespace {

TEST(VirtualClock, ThreadCpuSecondsGrowWithWorkAndNotWithSleep) {
  const double begin = ThreadCpuSeconds();
  volatile double x = 1;
  while (ThreadCpuSeconds() - begin < 0.02) x = x * 1.0000001;
  const double worked = ThreadCpuSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds{100});
  EXPECT_LT(ThreadCpuSeconds() - worked, 0.02);
}

TEST(VirtualClock, RunsScaledBetweenContinueAndStop) {
  double cpu_seconds = 100;
  VirtualClock clock(2, [&] { return cpu_seconds; });
  EXPECT_EQ(clock.now(), 0);
  cpu_seconds += 8;  // it has not begun
  clock.Continue();
  cpu_seconds += 3;
  EXPECT_EQ(clock.Stop(), 6);
  cpu_seconds += 5;  // it stands still
  EXPECT_EQ(clock.now(), 6);
  EXPECT_EQ(clock.compute_seconds(), 6);
}

TEST(VirtualClock, JumpsForwardsOnlyAndDoesNotCountThatAsCompute) {
  double cpu_seconds = 0;
  VirtualClock clock(1, [&] { return cpu_seconds; });
  clock.AdvanceTo(4);
  EXPECT_EQ(clock.now(), 4);
  clock.AdvanceTo(3);
  EXPECT_EQ(clock.now(), 4);
  clock.Continue();
  cpu_seconds += 1;
  clock.Stop();
  EXPECT_EQ(clock.now(), 5);
  EXPECT_EQ(clock.compute_seconds(), 1);
}

}  // namespace
}  // namespace unipool
