#include "runtime/traffic_split.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

using Peers = std::vector<PeerStart>;

void Expect(const WaitSplit& got, const WaitSplit& expected) {
  EXPECT_EQ(got.idle_ns, expected.idle_ns);
  EXPECT_EQ(got.idle_receiver_ns, expected.idle_receiver_ns);
  EXPECT_EQ(got.exposed_ns, expected.exposed_ns);
  EXPECT_EQ(got.sender, expected.sender);
  EXPECT_EQ(got.receiver, expected.receiver);
}

TEST(SplitWait, TheExampleOfTheHeader) {
  Expect(SplitWait(10, 30, Peers{{.peer = 4, .start_ns = 18, .sends = true}, {.peer = 2, .start_ns = 21}}),
         {.idle_ns = 8, .idle_receiver_ns = 3, .exposed_ns = 9, .sender = 4, .receiver = 2});
}

TEST(SplitWait, PeersInTimeLeaveTheWire) {
  Expect(SplitWait(10, 30, Peers{{.peer = 1, .start_ns = 10, .sends = true}, {.peer = 2, .start_ns = 3}}),
         {.exposed_ns = 20});
  Expect(SplitWait(10, 30, {}), {.exposed_ns = 20});
  Expect(SplitWait(10, 10, Peers{{.peer = 1, .start_ns = 12, .sends = true}}), {});
}

TEST(SplitWait, TheLastSenderIsTheCause) {
  Expect(SplitWait(10, 30,
                   Peers{{.peer = 1, .start_ns = 15, .sends = true},
                         {.peer = 2, .start_ns = 17, .sends = true},
                         {.peer = 3, .start_ns = 16, .sends = true}}),
         {.idle_ns = 7, .exposed_ns = 13, .sender = 2});
}

TEST(SplitWait, AReceiverBeforeTheLastSenderCostsNothing) {
  Expect(SplitWait(10, 30, Peers{{.peer = 1, .start_ns = 20, .sends = true}, {.peer = 2, .start_ns = 19}}),
         {.idle_ns = 10, .exposed_ns = 10, .sender = 1});
}

TEST(SplitWait, AStartAfterTheEndFillsTheWaitAndNoMore) {
  Expect(SplitWait(10, 30, Peers{{.peer = 1, .start_ns = 40, .sends = true}}), {.idle_ns = 20, .sender = 1});
  Expect(SplitWait(10, 30, Peers{{.peer = 1, .start_ns = 40}}), {.idle_receiver_ns = 20, .receiver = 1});
}

TEST(SplitWait, WhatIsNotKnownIsNotLate) {
  Expect(SplitWait(10, 30, Peers{{.peer = 1, .start_ns = -1, .sends = true}}), {.exposed_ns = 20});
}

TEST(SplitWait, PartsAreNeverNegativeAndAddUp) {
  SCOPED_TRACE(SeedText());
  std::mt19937_64 random(FreshSeed());
  for (int i = 0; i < 2000; ++i) {
    const int64_t enter = static_cast<int64_t>(random() % 20),
                  leave = enter + static_cast<int64_t>(random() % 20);
    Peers peers(random() % 4);
    for (PeerStart& peer : peers)
      peer = {.peer = 1, .start_ns = static_cast<int64_t>(random() % 50) - 1, .sends = random() % 2 == 0};
    const WaitSplit split = SplitWait(enter, leave, peers);
    EXPECT_GE(split.idle_ns, 0);
    EXPECT_GE(split.idle_receiver_ns, 0);
    EXPECT_GE(split.exposed_ns, 0);
    EXPECT_EQ(split.idle_ns + split.idle_receiver_ns + split.exposed_ns, leave - enter);
  }
}

}  // namespace
}  // namespace unipool
