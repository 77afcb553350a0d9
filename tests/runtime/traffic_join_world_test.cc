#include <gtest/gtest.h>

#include <thread>

#include "runtime/traffic_join.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int64_t kMs = 1'000'000;

struct Rank {
  Rank(World& world, TrafficClock clock)
      : recorder({.rank = world.rank(),
                  .node_of_rank = std::vector<int>(world.size()),
                  .carrier = "test",
                  .board = nullptr,
                  .clock = clock}),
        communicator(recorder.RecordWorld(*world.communicator, "world")),
        reversed(recorder.RecordPart(world.communicator->Split(0, -world.rank()), "reversed")) {
    recorder.SetSizes({.layers = 4, .slots_per_time = 1, .num_slots = 4});
    recorder.KeepExchanges(100, 1000);
  }
  // Everybody sends 8 bytes to everybody.
  void ToAll(Communicator& group, const char* operation, int layer) {
    std::vector<int64_t> in(group.size());
    const std::vector<SendBlock> send(group.size(), {&number, 8});
    std::vector<RecvBlock> recv;
    for (int64_t& place : in) recv.push_back({&place, 8});
    ExchangeLabel label{.operation = operation};
    label.lane = 0;
    label.layer = static_cast<int16_t>(layer);
    group.Exchange(send, recv, label);
  }

  TrafficRecorder recorder;
  std::unique_ptr<Communicator> communicator, reversed;
  int64_t number = 5;
};

void Sleep(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// In layer 2 the last rank comes 30 ms late, in layer 3 rank 0 does, on another communicator. Clocks are
// wrong by seconds; offsets say by how much.
TEST(JoinStarts, NamesTheLateRankOfEachExchange) {
  RunOnRanks([](World& world) {
    const int last = world.size() - 1;
    if (last == 0) return;
    const TrafficClock clock{.offset_ns = int64_t{5'000'000'000} * world.rank(), .drift = 0};
    std::vector<int64_t> offsets;
    for (int r = 0; r <= last; ++r) offsets.push_back(-int64_t{5'000'000'000} * r);
    Rank rank(world, clock);
    rank.recorder.BeginStep(4);
    rank.ToAll(*rank.communicator, "a", 0);
    rank.ToAll(*rank.reversed, "b", 0);
    if (world.rank() == last) Sleep(30);
    rank.ToAll(*rank.communicator, "a", 2);
    if (world.rank() == 0) Sleep(30);
    rank.ToAll(*rank.reversed, "b", 3);
    rank.recorder.EndStep();
    const int64_t blocked = rank.recorder.tally().window().sum.blocked_ns;
    EXPECT_FALSE(rank.recorder.tally().window().is_split());
    ASSERT_TRUE(JoinStarts(rank.recorder, *world.communicator, offsets));
    const TrafficTally& tally = rank.recorder.tally();
    EXPECT_EQ(tally.window().split_blocked_ns, blocked);
    const auto idle = [&](int operation, int layer) {
      return tally.operations()[operation].cells[tally.CellIndex(0, layer)].idle_ns;
    };
    if (world.rank() != last) {
      EXPECT_GT(idle(0, 2), 15 * kMs);
      EXPECT_LE(idle(0, 2), blocked);
      EXPECT_EQ(rank.recorder.keep().records()[2].cause, last);
      EXPECT_GE(tally.window_owed()[last], idle(0, 2));
    }
    if (world.rank() != 0) {
      EXPECT_GT(idle(1, 3), 15 * kMs);
      EXPECT_EQ(rank.recorder.keep().records()[3].cause, 0);
    }
    EXPECT_EQ(tally.step_owed()[last], 0);  // of the window alone
    // Without the offsets the answer would be another one.
    if (world.rank() == 0) {
      const ExchangeRecord& record = rank.recorder.keep().records()[2];
      const WaitSplit wrong = SplitWait(
          record.wait_enter_ns, record.wait_leave_ns,
          std::vector<PeerStart>{{.peer = last, .start_ns = record.start_ns + 5'000'000'000, .sends = true}});
      EXPECT_EQ(wrong.exposed_ns, 0);
    }
  });
}

TEST(JoinStarts, DoesNothingWhereARankLacksRecords) {
  RunOnRanks([](World& world) {
    Rank rank(world, {});
    if (world.rank() == 0) rank.recorder.KeepExchanges(1, 100);
    rank.recorder.BeginStep(0);
    rank.ToAll(*rank.communicator, "a", 0);
    rank.ToAll(*rank.communicator, "a", 0);
    rank.recorder.EndStep();
    EXPECT_FALSE(JoinStarts(rank.recorder, *world.communicator, std::vector<int64_t>(world.size())));
    EXPECT_EQ(rank.recorder.tally().window().split_blocked_ns, 0);
  });
}

}  // namespace
}  // namespace unipool
