#include "runtime/thread_cpu.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kMs = 1'000'000;

int64_t NsSince(Clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
}

// Counts until the thread had a core for so long.
void Work(const ThreadCpuClock& clock, int64_t cpu_ns) {
  const ThreadCpu begin = clock.Now();
  while (clock.Now().Since(begin).cpu_ns < cpu_ns) {
  }
}

TEST(ThreadCpuClock, CountsWorkAndNoSleep) {
  const ThreadCpuClock clock;
  const ThreadCpu begin = clock.Now();
  ASSERT_GE(begin.cpu_ns, 0);
  ASSERT_GE(begin.pushed_off, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_LT(clock.Now().Since(begin).cpu_ns, 20 * kMs);
  const ThreadCpu before = clock.Now();
  Work(clock, 30 * kMs);
  EXPECT_GE(clock.Now().Since(before).cpu_ns, 30 * kMs);
}

TEST(ThreadCpuClock, CountsTheTimeThatAnotherHadTheCore) {
  std::atomic<bool> stop{false};
  const auto pin = [] {
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof(all), &all) != 0) return;
    int core = 0;
    while (!CPU_ISSET(core, &all)) ++core;
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof(one), &one);
  };
  std::thread other([&] {
    pin();
    while (!stop) {
    }
  });
  std::thread([&] {
    pin();
    const ThreadCpuClock clock;
    const ThreadCpu before = clock.Now();
    const auto begin = Clock::now();
    Work(clock, 100 * kMs);
    const int64_t wall = NsSince(begin);
    const ThreadCpu used = clock.Now().Since(before);
    EXPECT_GT(wall - used.cpu_ns, 30 * kMs) << "the two share a core";
    EXPECT_GT(used.pushed_off, 0);
    if (used.queued_ns >= 0) {
      EXPECT_GT(used.queued_ns, (wall - used.cpu_ns) / 2);
      EXPECT_LE(used.queued_ns, wall);
    }
  }).join();
  stop = true;
  other.join();
}

TEST(ThreadCpu, WhatIsNotKnownOnceIsNotKnown) {
  ThreadCpu sum{.cpu_ns = 5, .queued_ns = 3, .pushed_off = 1};
  sum.Add({.cpu_ns = 2, .queued_ns = -1, .pushed_off = 4});
  EXPECT_EQ(sum.cpu_ns, 7);
  EXPECT_EQ(sum.queued_ns, -1);
  EXPECT_EQ(sum.pushed_off, 5);
  EXPECT_EQ(sum.Since({.cpu_ns = 4, .queued_ns = 1, .pushed_off = -1}).cpu_ns, 3);
  EXPECT_EQ(sum.Since({.cpu_ns = 4, .queued_ns = 1, .pushed_off = -1}).pushed_off, -1);
}

}  // namespace
}  // namespace unipool
