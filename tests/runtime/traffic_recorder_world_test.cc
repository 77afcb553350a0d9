#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "runtime/arrival_times.h"
#include "runtime/range.h"
#include "runtime/traffic_recorder.h"
#include "tests/fresh_seed.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

using ::testing::Each;

constexpr int64_t kMs = 1'000'000;

// One rank's recorder and a recorded communicator of all ranks.
struct Rank {
  Rank(World& world, std::shared_ptr<TrafficBoard> board, std::vector<int> nodes = {})
      : recorder({.rank = world.rank(),
                  .node_of_rank = nodes.empty() ? std::vector<int>(world.size()) : nodes,
                  .carrier = world.is_mpi ? "MPI" : "threads",
                  .board = world.is_mpi ? nullptr : std::move(board),
                  .clock = {}}),
        communicator(recorder.RecordWorld(*world.communicator, "world")) {
    recorder.SetSizes({.layers = 4, .slots_per_time = 2, .num_slots = 6});
  }

  // bytes(from, to).
  template <class Bytes>
  Communicator::Ticket Start(Bytes&& bytes, const ExchangeLabel& label) {
    const int size = communicator->size(), me = communicator->rank();
    send.assign(size, {});
    recv.assign(size, {});
    for (int p = 0; p < size; ++p) {
      send[p] = {out.data(), bytes(me, p)};
      recv[p] = {in.data() + p * 1000, bytes(p, me)};
    }
    return communicator->Start(send, recv, label);
  }
  const TrafficCell& CellOf(int operation, int lane, int layer) const {
    const TrafficTally& tally = recorder.tally();
    return tally.operations()[operation].cells[tally.CellIndex(lane, layer)];
  }

  TrafficRecorder recorder;
  std::unique_ptr<Communicator> communicator;
  std::vector<SendBlock> send;
  std::vector<RecvBlock> recv;
  std::vector<char> out = std::vector<char>(1000, 'x'), in = std::vector<char>(10'000);
};

ExchangeLabel LabelOf(const char* operation, int slot, int lane, int layer) {
  ExchangeLabel label{.operation = operation, .step = 3, .slot = slot};
  label.lane = static_cast<int8_t>(lane);
  label.stage = 0;
  label.layer = static_cast<int16_t>(layer);
  label.microbatch = 5;
  return label;
}

// Random blocks, some empty: what each rank recorded is what it was given, and what one rank sent is what the
// other got.
TEST(TrafficRecorder, BytesAreExact) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    const int size = world.size(), me = world.rank();
    uint64_t seed = FreshSeed();
    world.communicator->Broadcast(&seed, sizeof(seed), 0, {});
    SCOPED_TRACE(SeedText(seed));
    std::mt19937_64 random(seed);
    std::vector<int> nodes(size);
    for (int r = 0; r < size; ++r) nodes[r] = r / 2;
    Rank rank(world, board, nodes);
    rank.recorder.KeepExchanges(100, 1000);
    rank.recorder.BeginStep(7);
    std::vector<int64_t> to(size), from(size);  // of all exchanges
    int64_t intra = 0, inter = 0;
    std::vector<std::vector<int64_t>> matrices;
    for (int e = 0; e < 20; ++e) {
      std::vector<int64_t> matrix(size * size);
      for (int64_t& bytes : matrix) bytes = random() % 3 == 0 ? 0 : static_cast<int64_t>(random() % 1000);
      const auto bytes = [&](int f, int t) { return matrix[f * size + t]; };
      rank.communicator->Wait(rank.Start(bytes, LabelOf(e % 2 ? "a" : "b", e % 6, e % 2, e % 4)));
      for (int p = 0; p < size; ++p) {
        to[p] += bytes(me, p);
        from[p] += bytes(p, me);
        if (p != me) (nodes[p] == nodes[me] ? intra : inter) += bytes(me, p);
      }
      matrices.push_back(matrix);
    }
    rank.recorder.EndStep();
    const auto records = rank.recorder.keep().records();
    ASSERT_EQ(records.size(), 20u);
    for (int e = 0; e < 20; ++e) {
      const ExchangeRecord& r = records[e];
      EXPECT_EQ(r.step, 7);
      EXPECT_EQ(r.sequence, e);
      EXPECT_EQ(r.communicator, 0);
      EXPECT_STREQ(rank.recorder.tally().operations()[r.operation].name, e % 2 ? "a" : "b");
      EXPECT_EQ(r.slot_time, e % 6 / 2);
      EXPECT_EQ(r.slot_index, e % 6 % 2);
      EXPECT_EQ(r.lane, e % 2);
      EXPECT_EQ(r.stage, 0);
      EXPECT_EQ(r.layer, e % 4);
      EXPECT_EQ(r.microbatch, 5);
      EXPECT_EQ(r.under_way, 0);
      EXPECT_EQ((r.head.flags & ExchangeRecord::kFirstUse) != 0, e == 0);
      EXPECT_EQ(r.bytes_self, matrices[e][me * size + me]);
      EXPECT_GT(r.start_ns, 0);
      EXPECT_GE(r.start_done_ns, r.start_ns);
      EXPECT_GE(r.wait_enter_ns, r.start_done_ns);
      EXPECT_GE(r.wait_leave_ns, r.wait_enter_ns);
      std::vector<PeerBytes> expected;
      for (int p = 0; p < size; ++p) {
        const int64_t out = matrices[e][me * size + p], in = matrices[e][p * size + me];
        if (p != me && out + in > 0) expected.push_back({.peer = p, .bytes_to = out, .bytes_from = in});
      }
      const auto peers = rank.recorder.keep().peers(e);
      ASSERT_EQ(peers.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(peers[i].peer, expected[i].peer);
        EXPECT_EQ(peers[i].bytes_to, expected[i].bytes_to);
        EXPECT_EQ(peers[i].bytes_from, expected[i].bytes_from);
        // MPI alone sees them; no later than the wait's end, to the microsecond.
        const bool sees = dynamic_cast<const ArrivalTimes*>(world.communicator) && peers[i].bytes_from > 0;
        EXPECT_EQ(peers[i].arrived_us >= 0, sees);
        EXPECT_LE(peers[i].arrived_us, (r.wait_leave_ns - r.start_ns) / 1000);
      }
    }
    const TrafficTotals& window = rank.recorder.tally().window();
    EXPECT_EQ(window.sum.count, 20);
    EXPECT_EQ(window.sum.bytes_intra, intra);
    EXPECT_EQ(window.sum.bytes_inter, inter);
    EXPECT_EQ(window.sum.bytes_self, to[me]);
    EXPECT_EQ(window.dropped, 0);
    EXPECT_EQ(window.first_use, 1);
    EXPECT_EQ(window.num_timed, 19);
    int64_t received = 0;
    for (int p = 0; p < size; ++p) received += p == me ? 0 : from[p];
    EXPECT_EQ(window.received_bytes, received);
    // What each rank says that it sent here is what this rank says that it got.
    const TrafficTally& tally = rank.recorder.tally();
    std::vector<int64_t> sent(size), all(size * size);
    for (const TrafficTally::Operation& operation : tally.operations()) {
      for (int p = 0; p < size; ++p) sent[p] += operation.bytes_to[p];
    }
    EXPECT_EQ(sent, to);
    std::vector<SendBlock> send(size, {sent.data(), size * 8});
    std::vector<RecvBlock> recv;
    for (int p = 0; p < size; ++p) recv.push_back({all.data() + p * size, size * 8});
    world.communicator->Exchange(send, recv, {});
    for (int p = 0; p < size; ++p) EXPECT_EQ(all[p * size + me], from[p]);
  });
}

TEST(TrafficRecorder, CellsAreByOperationLaneAndLayer) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    rank.recorder.BeginStep(0);
    const auto bytes = [](int f, int t) { return int64_t{f == t ? 7 : 10}; };
    for (int layer = 0; layer < 4; ++layer) {
      for (int i = 0; i <= layer; ++i) rank.communicator->Wait(rank.Start(bytes, LabelOf("a", 0, 1, layer)));
    }
    rank.communicator->Wait(rank.Start(bytes, {.operation = "b"}));
    rank.recorder.EndStep();
    for (int layer = 0; layer < 4; ++layer) {
      EXPECT_EQ(rank.CellOf(0, 1, layer).count, layer + 1);
      EXPECT_EQ(rank.CellOf(0, 1, layer).bytes_self, 7 * (layer + 1));
      EXPECT_EQ(rank.CellOf(0, 1, layer).bytes_intra, 10 * (world.size() - 1) * (layer + 1));
      EXPECT_EQ(rank.CellOf(0, 0, layer).count, 0);
    }
    EXPECT_EQ(rank.CellOf(1, -1, -1).count, 1);
  });
}

// Rows that stay on the rank count as received: they never come to the exchange.
TEST(TrafficRecorder, RowsThatComeToOwners) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    rank.recorder.BeginStep(0);
    ExchangeLabel label = LabelOf("dispatch backward", 4, 1, 2);
    label.row_bytes = 4;
    label.kept_bytes = 8;
    label.to_owners = true;
    const auto bytes = [](int f, int t) { return int64_t{f == t ? 0 : 4 * (t + 1)}; };
    rank.communicator->Wait(rank.Start(bytes, label));
    label.to_owners = false;
    rank.communicator->Wait(rank.Start(bytes, label));
    rank.recorder.EndStep();
    std::vector<int64_t> expected(12);
    expected[6 + 4] = 2 + (world.size() - 1) * (world.rank() + 1);
    EXPECT_EQ(
        std::vector<int64_t>(rank.recorder.rows_received().begin(), rank.recorder.rows_received().end()),
        expected);
    EXPECT_EQ(rank.recorder.tally().window().sum.bytes_self, 16);
    rank.recorder.BeginStep(1);
    rank.recorder.EndStep();
    EXPECT_THAT(rank.recorder.rows_received(), Each(0));
  });
}

TEST(TrafficRecorder, CountsNothingOutsideOfSteps) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    rank.recorder.KeepExchanges(10, 100);
    const auto bytes = [](int, int) { return int64_t{10}; };
    rank.communicator->Wait(rank.Start(bytes, {}));
    rank.recorder.BeginStep(0);
    rank.communicator->Wait(rank.Start(bytes, {}));
    rank.recorder.EndStep();
    rank.communicator->Wait(rank.Start(bytes, {}));
    EXPECT_EQ(rank.recorder.tally().window().sum.count, 1);
    ASSERT_EQ(rank.recorder.keep().records().size(), 1u);
    EXPECT_EQ(rank.recorder.keep().records()[0].sequence, 1);
    EXPECT_EQ(rank.recorder.tally().window().first_use, 0);
  });
}

TEST(TrafficRecorder, DropsAreCounted) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    rank.recorder.KeepExchanges(3, 1000);
    rank.recorder.BeginStep(0);
    const auto bytes = [](int, int) { return int64_t{10}; };
    for (int e = 0; e < 5; ++e) rank.communicator->Wait(rank.Start(bytes, {}));
    rank.recorder.EndStep();
    EXPECT_EQ(rank.recorder.keep().records().size(), 3u);
    EXPECT_EQ(rank.recorder.keep().num_dropped(), 2);
    EXPECT_EQ(rank.recorder.tally().window().dropped, 2);
    EXPECT_EQ(rank.recorder.tally().window().sum.count, 5);  // sums are complete
    EXPECT_EQ(rank.recorder.most_records(), 5);
    EXPECT_EQ(rank.recorder.most_peers(), 5 * (world.size() - 1));
  });
}

TEST(TrafficRecorder, SeveralUnderWayInAnyOrderOfWaiting) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    rank.recorder.KeepExchanges(10, 100);
    rank.recorder.BeginStep(0);
    const auto bytes = [](int, int) { return int64_t{10}; };
    const auto first = rank.Start(bytes, {.operation = "first"});
    const auto second = rank.Start(bytes, {.operation = "second"});
    rank.communicator->Wait(second);
    rank.communicator->Wait(first);
    rank.recorder.EndStep();
    const auto records = rank.recorder.keep().records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].under_way, 0);
    EXPECT_EQ(records[1].under_way, 1);
    EXPECT_GE(records[0].wait_enter_ns, records[1].wait_leave_ns);
  });
}

TEST(TrafficRecorder, AStepAllocatesNothing) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    rank.recorder.KeepExchanges(100, 1000);
    const auto bytes = [](int, int) { return int64_t{10}; };
    const auto step = [&](int64_t number) {
      rank.recorder.BeginStep(number);
      for (int e = 0; e < 50; ++e) rank.communicator->Wait(rank.Start(bytes, LabelOf("a", 0, 0, e % 4)));
      rank.communicator->Wait(rank.Start(bytes, {.operation = number == 0 ? "b" : "c"}));
      rank.recorder.EndStep();
    };
    step(0);
    const int64_t before = NumAllocations();
    step(1);
    EXPECT_EQ(NumAllocations(), before);
  });
}

// Sums go through the recorded communicator and give the same bits.
TEST(TrafficRecorder, SumsAreTheSameBitForBit) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    std::vector<float> plain(10'000), recorded;
    for (size_t i = 0; i < plain.size(); ++i) plain[i] = 1.0f / static_cast<float>(i + 1 + world.rank() * 7);
    recorded = plain;
    Rank rank(world, board);
    rank.recorder.BeginStep(0);
    const auto tensor = [](std::vector<float>& values) {
      return Tensor(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
    };
    world.communicator->AllReduceSum(tensor(plain), {});
    rank.communicator->AllReduceSum(tensor(recorded), {.operation = "sum"});
    rank.recorder.EndStep();
    EXPECT_EQ(plain, recorded);
    const int64_t own = EvenPartition(10'000, world.size(), world.rank()).size();
    EXPECT_EQ(rank.recorder.tally().window().wire_bytes(), 4 * (10'000 - own) + 4 * own * (world.size() - 1));
    rank.recorder.KeepExchanges(5, 5);
    EXPECT_TRUE(rank.recorder.keep().is_on());
    rank.recorder.KeepExchanges(0, 0);
    EXPECT_FALSE(rank.recorder.keep().is_on());
  });
}

// Rank 0 comes late: the time of those that wait for it is idle time, and owed to it. Where ranks are
// processes nobody can know so at once.
TEST(TrafficRecorder, ALateSenderIsTheCause) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    if (world.size() == 1) return;
    Rank rank(world, board);
    rank.recorder.KeepExchanges(10, 100);
    const auto bytes = [](int f, int) { return int64_t{f == 0 ? 100 : 0}; };
    world.communicator->Barrier({});
    rank.recorder.BeginStep(0);
    rank.communicator->Wait(rank.Start(bytes, {}));  // the first use counts no time
    if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(40));
    rank.communicator->Wait(rank.Start(bytes, {}));
    rank.recorder.EndStep();
    const TrafficTotals& window = rank.recorder.tally().window();
    EXPECT_EQ(window.is_split(), !world.is_mpi);
    if (world.rank() == 0) return;
    EXPECT_GT(window.sum.blocked_ns, 25 * kMs);
    if (world.is_mpi) {
      EXPECT_EQ(rank.recorder.keep().records()[1].idle_ns, -1);
      return;
    }
    EXPECT_GT(window.sum.idle_ns, 25 * kMs);
    EXPECT_EQ(window.sum.idle_ns + window.sum.idle_receiver_ns + window.sum.exposed_ns,
              window.sum.blocked_ns);
    EXPECT_EQ(rank.recorder.tally().window_owed()[0], window.sum.idle_ns);
    EXPECT_EQ(rank.recorder.keep().records()[1].cause, 0);
    EXPECT_EQ(rank.recorder.keep().records()[1].idle_ns, window.sum.idle_ns);
  });
}

// Rank 0 receives and comes late: threads hand a block over once both have started.
TEST(TrafficRecorder, ALateReceiverIsTheCause) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    if (world.size() == 1 || world.is_mpi) return;
    Rank rank(world, board);
    const auto bytes = [](int, int t) { return int64_t{t == 0 ? 100 : 0}; };
    world.communicator->Barrier({});
    rank.recorder.BeginStep(0);
    rank.communicator->Wait(rank.Start(bytes, {}));
    if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(40));
    rank.communicator->Wait(rank.Start(bytes, {}));
    rank.recorder.EndStep();
    if (world.rank() == 0) return;
    const TrafficTotals& window = rank.recorder.tally().window();
    EXPECT_GT(window.sum.idle_receiver_ns, 25 * kMs);
    EXPECT_EQ(window.sum.idle_ns, 0);
    EXPECT_EQ(rank.recorder.tally().window_owed()[0], window.sum.idle_receiver_ns);
  });
}

TEST(TrafficRecorder, PartsKnowTheirWorldRanks) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    Rank rank(world, board);
    const auto part = rank.recorder.RecordPart(world.communicator->Split(0, -world.rank()), "reversed");
    std::vector<int> reversed;
    for (int r = world.size() - 1; r >= 0; --r) reversed.push_back(r);
    EXPECT_EQ(rank.recorder.communicators()[1].members, reversed);
    EXPECT_EQ(rank.recorder.communicators()[1].name, "reversed");
    rank.recorder.BeginStep(0);
    std::vector<SendBlock> send(world.size());
    std::vector<RecvBlock> recv(world.size());
    char byte = 'x', got = 0;
    // Each rank to the next one of the world, by way of the part.
    const int next = (world.rank() + 1) % world.size(),
              before = (world.rank() + world.size() - 1) % world.size();
    if (next != world.rank()) {
      send[world.size() - 1 - next] = {&byte, 1};
      recv[world.size() - 1 - before] = {&got, 1};
    }
    part->Exchange(send, recv, {.operation = "to the next"});
    rank.recorder.EndStep();
    std::vector<int64_t> expected(world.size());
    if (next != world.rank()) expected[next] = 1;
    EXPECT_EQ(rank.recorder.tally().operations()[0].bytes_to, expected);
  });
}

TEST(TrafficClock, CanBeMadeWrong) {
  const int64_t right = TrafficClock{}.Now();
  const int64_t wrong = TrafficClock{.offset_ns = 3'000'000'000}.Now();
  EXPECT_GT(wrong - right, 2'999'999'999);
  EXPECT_LT(wrong - right, 4'000'000'000);
  const TrafficClock drifting{.drift = 1e-3};
  const int64_t a = TrafficClock{}.Now(), da = drifting.Now();
  EXPECT_NEAR(static_cast<double>(da - a), 1e-3 * static_cast<double>(a), 1e7);
}

}  // namespace
}  // namespace unipool
