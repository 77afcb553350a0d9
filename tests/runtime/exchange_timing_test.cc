// The rules by which blocks leave and arrive, by the example of emulated_communicator.h and by hand.
#include "runtime/exchange_timing.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

ClusterDescription Wire(double latency, double bytes_per_second) {
  ClusterDescription cluster;
  cluster.intra_node = {.latency_seconds = latency, .bytes_per_second = bytes_per_second};
  return cluster;
}

TEST(ExchangeTiming, ALateSenderAndTheWire) {
  const ClusterDescription cluster = Wire(1, 10);
  RankLinks links[2];
  ExchangeStart early{.started = 0, .all_left = 0, .wire_seconds = 3},
      late{.started = 4, .all_left = 4, .wire_seconds = 3};
  SentBlock to_late[] = {Send(cluster, links[0], 0, 1, 20, 1, early)};
  SentBlock to_early[] = {Send(cluster, links[1], 1, 0, 20, 1, late)};
  EXPECT_EQ(early.all_left, 2);
  const ExchangeEnd end = Receive(cluster, links[0], 0, to_early, early, 0);
  EXPECT_EQ(end.complete, 7);
  EXPECT_EQ(end.last_started, 4);
  EXPECT_EQ(end.last, 1);
  EXPECT_EQ(Receive(cluster, links[1], 1, to_late, late, 4).complete, 6);  // its own block leaves last
}

TEST(ExchangeTiming, AloneIsTheSlowerWire) {
  ClusterDescription cluster = Wire(1, 10);
  cluster.inter_node = {.latency_seconds = 2, .bytes_per_second = 1};
  EXPECT_EQ(AloneSeconds(cluster, {20, 0}, {50, 0}), 6);
  EXPECT_EQ(AloneSeconds(cluster, {20, 3}, {50, 1}), 6);
  EXPECT_EQ(AloneSeconds(cluster, {20, 9}, {50, 1}), 11);
  EXPECT_EQ(AloneSeconds(cluster, {0, 0}, {0, 0}), 0);
}

// With half of the wire at a standstill while the rank computes, half of what would have been hidden is left.
TEST(ExchangeTiming, OverlapLeavesWhatComputeDidNotHide) {
  ClusterDescription cluster = Wire(0, 10);
  const auto wait_from = [&](double overlap, double now) {
    cluster.overlap = overlap;
    RankLinks links[2];
    ExchangeStart here{.started = 0, .all_left = 0, .wire_seconds = 4}, there = here;
    SentBlock blocks[] = {Send(cluster, links[1], 1, 0, 40, 1, there)};
    return Receive(cluster, links[0], 0, blocks, here, now).complete;
  };
  EXPECT_EQ(wait_from(1, 100), 4);      // long over
  EXPECT_EQ(wait_from(0.5, 100), 102);  // half of 4 is still to be moved
  EXPECT_EQ(wait_from(0, 100), 104);
  EXPECT_EQ(wait_from(0.5, 2), 5);  // of the 2 that passed, 1 was lost
  EXPECT_EQ(wait_from(0, 0), 4);    // nothing was computed
}

TEST(ExchangeTiming, TheNearestShareOfAWireHolds) {
  WireDescription wire{.latency_seconds = 0, .bytes_per_second = 100, .shares = {}};
  wire.shares = {{.peers = 1, .bytes = 1000, .share = 1},
                 {.peers = 8, .bytes = 1000, .share = 0.5},
                 {.peers = 8, .bytes = 64000, .share = 0.8}};
  EXPECT_EQ(wire.ShareOf(1, 1e9), 1);
  EXPECT_EQ(wire.ShareOf(7, 900), 0.5);
  EXPECT_EQ(wire.ShareOf(100, 1e6), 0.8);
  EXPECT_EQ(wire.Seconds(100, 8), 2);
}

}  // namespace
}  // namespace unipool
