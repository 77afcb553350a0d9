#include "launcher/traffic_report/exchange_waits.h"

#include <gmock/gmock.h>

#include "tests/fresh_seed.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

struct Split {
  explicit Split(const ExampleRun& run)
      : folder(ReadRecordedRun(run.path(), {})), clocks(folder), traffic(JoinTraffic(folder, clocks)) {
    evidence = SplitExchanges(traffic, folder.manifest, clocks);
  }
  const ExchangePart& Part(size_t exchange, size_t rank) const {
    return traffic.exchanges.at(exchange).parts.at(rank);
  }
  RecordedRun folder;
  ClockMap clocks;
  JoinedTraffic traffic;
  WaitEvidence evidence;
};

// Rank 0 waits from 10 to 30. The peer starts at 18; once it sends, once it only receives.
TEST(ExchangeWaits, TellsLateSendersFromLateReceivers) {
  ExampleRun run(2, "split");
  ExampleExchange both{.calls = {{10, 10, 30}, {18, 20, 30}}, .bytes = {{0, 80}, {80, 0}}};
  ExampleExchange one_way = both;
  one_way.bytes = {{0, 80}, {0, 0}};
  run.AddStep(0, 0, 100, {both, one_way});
  run.Write();
  const Split split(run);
  EXPECT_EQ(split.Part(0, 0).idle, 8);
  EXPECT_EQ(split.Part(0, 0).idle_receiver, 0);
  EXPECT_EQ(split.Part(0, 0).exposed, 12);
  EXPECT_EQ(split.Part(0, 0).cause, 1);
  EXPECT_EQ(split.Part(0, 1).idle, 0);
  EXPECT_EQ(split.Part(0, 1).exposed, 10);
  EXPECT_EQ(split.Part(0, 1).cause, -1);
  EXPECT_EQ(split.Part(1, 0).idle, 0);
  EXPECT_EQ(split.Part(1, 0).idle_receiver, 8);
  EXPECT_EQ(split.Part(1, 0).exposed, 12);
  EXPECT_EQ(split.Part(1, 0).cause, 1);
}

// The peer starts, and computes from 20 to 90 before it waits. Exchanges before it took 10 where both
// attended. Without a thread for progress the 60 beyond that are nobody's wire; with threads as ranks there
// is no such thing.
TEST(ExchangeWaits, StalledIsWhatNobodyMoved) {
  for (const std::string carrier : {"MPI", "threads"}) {
    ExampleRun run(2, "stalled");
    run.carrier_ = carrier;
    std::vector<ExampleExchange> exchanges;
    for (int64_t i = 0; i < 20; ++i) {
      const int64_t at = 100 * i;
      exchanges.push_back({.calls = {{at, at, at + 11}, {at, at + 1, at + 11}}, .bytes = {{0, 80}, {80, 0}}});
    }
    exchanges.push_back({.calls = {{5010, 5015, 5095}, {5010, 5090, 5100}}, .bytes = {{0, 80}, {80, 0}}});
    run.AddStep(0, 0, 6000, exchanges);
    run.Write();
    const Split split(run);
    EXPECT_EQ(split.Part(20, 0).exposed, 80);
    EXPECT_EQ(split.Part(20, 0).stalled, carrier == "MPI" ? 80 - 11 : 0) << carrier;
    EXPECT_EQ(split.Part(3, 0).stalled, 0);
  }
}

class ClocksTest : public ::testing::Test {
 protected:
  // Ranks 2 and 3 are on a host whose clock is 7 s ahead and runs 50 ppm fast.
  static void MakeWrong(ExampleRun& run) {
    for (const int rank : {2, 3})
      run.clocks_[rank] = {.boot_id = "b1", .drift = 50e-6, .offset = 7'000'000'000};
    run.nodes_ = {0, 0, 1, 1};
  }
  static Planted Plan() {
    return {.layers = 10,
            .steps = 5,
            .first_begin_ns = 4'000'000'000,
            .seed = static_cast<uint32_t>(FreshSeed())};
  }
};

TEST_F(ClocksTest, WrongClocksGiveTheSameAnswerWithinTheirUncertainty) {
  ExampleRun right(4, "right"), wrong(4, "wrong");
  const Planted plan = Plan();
  AddPlanted(right, plan);
  MakeWrong(wrong);
  AddPlanted(wrong, plan);
  constexpr int64_t kUncertainty = 2000;
  wrong.Compare(2, 1'000'000'000, kUncertainty, 1500);
  wrong.Compare(2, 9'000'000'000, kUncertainty, -1500);
  right.Write();
  wrong.Write();
  const Split a(right), b(wrong);
  ASSERT_EQ(a.traffic.exchanges.size(), b.traffic.exchanges.size());
  int64_t largest = 0, idle = 0;
  for (size_t e = 0; e < a.traffic.exchanges.size(); ++e) {
    for (size_t r = 0; r < 4; ++r) {
      const ExchangePart &x = a.Part(e, r), &y = b.Part(e, r);
      ASSERT_GE(y.idle, 0);
      EXPECT_NEAR(x.idle, y.idle, y.idle_uncertainty + 10);
      EXPECT_LE(y.idle_uncertainty, kUncertainty + 1);
      EXPECT_EQ(x.idle_uncertainty, 0);
      largest = std::max(largest, std::abs(x.idle - y.idle));
      idle += x.idle;
    }
  }
  EXPECT_GT(idle, 0);
  EXPECT_GT(largest, 100);  // the comparisons' errors are there
  EXPECT_EQ(b.clocks.num_clocks(), 2);
  EXPECT_NEAR(b.clocks.LargestDrift(), 50e-6, 1e-6);
  EXPECT_GT(b.evidence.causality.num_checks, 100);
  EXPECT_EQ(b.evidence.causality.num_violations, 0);
  EXPECT_FALSE(b.evidence.clock_free.Disagrees());
}

TEST_F(ClocksTest, ClocksThatWereNeverComparedAreNotPutTogether) {
  ExampleRun run(4, "uncompared");
  MakeWrong(run);
  AddPlanted(run, Plan());
  run.Write();
  const Split split(run);
  EXPECT_FALSE(split.clocks.IsKnown(2));
  for (const JoinedExchange& exchange : split.traffic.exchanges) {
    for (const ExchangePart& part : exchange.parts) EXPECT_EQ(part.idle, -1);
  }
}

// The comparison is wrong by a millisecond and claims two microseconds.
TEST_F(ClocksTest, BlocksThatArriveBeforeTheyAreSentAreSeen) {
  ExampleRun run(4, "breach");
  MakeWrong(run);
  AddPlanted(run, Plan());
  for (const int64_t at : {1, 9}) run.Compare(2, at * 1'000'000'000, 2000, 1'000'000);
  run.Write();
  const Split split(run);
  EXPECT_TRUE(split.evidence.causality.Breached());
  EXPECT_NEAR(split.evidence.causality.largest_ns, 950'000, 50'000);
  for (const JoinedExchange& exchange : split.traffic.exchanges) EXPECT_EQ(exchange.parts[0].idle, -1);
}

TEST(WireTimes, FitsLatencyAndRate) {
  WireTimes wire;
  for (int64_t bytes = 100; bytes < 1'000'000; bytes += 100 + bytes / 3) {
    for (int i = 0; i < 10; ++i) wire.Add(bytes, 5000 + bytes / 2 + i * 1000);  // a tenth more each
  }
  wire.Finish();
  EXPECT_NEAR(wire.Ns(500'000), 257'000, 20'000);
  EXPECT_NEAR(wire.alpha_ns(), 7000, 2500);
  WireTimes none;
  none.Finish();
  EXPECT_LT(none.Ns(5), 0);
}

}  // namespace
}  // namespace unipool
