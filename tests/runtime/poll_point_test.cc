#include "runtime/poll_point.h"

#include <gtest/gtest.h>

#include <thread>

namespace unipool {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

TEST(PollPoint, DoesNothingWithoutAPoll) {
  PollPoint();
  int calls = 0;
  {
    const ThreadPoll poll([&] { ++calls; }, milliseconds(0));
  }
  PollPoint();
  EXPECT_EQ(calls, 0);
}

TEST(PollPoint, PollsAtOnceAndThenAfterEachPause) {
  int calls = 0;
  const ThreadPoll poll([&] { ++calls; }, hours(1));
  for (int i = 0; i < 1000; ++i) PollPoint();
  EXPECT_EQ(calls, 1);
}

TEST(PollPoint, WithoutAPausePollsEveryTime) {
  int calls = 0;
  const ThreadPoll poll([&] { ++calls; }, milliseconds(0));
  for (int i = 0; i < 10; ++i) PollPoint();
  EXPECT_EQ(calls, 10);
}

TEST(PollPoint, BelongsToTheThreadThatMadeIt) {
  int calls = 0;
  const ThreadPoll poll([&] { ++calls; }, milliseconds(0));
  std::thread([&] {
    PollPoint();
    int own_calls = 0;
    const ThreadPoll own([&] { ++own_calls; }, milliseconds(0));
    PollPoint();
    EXPECT_EQ(own_calls, 1);
  }).join();
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace unipool
