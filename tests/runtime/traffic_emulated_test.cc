// Records of an emulated cluster: computed by hand, and the same as the emulation's own report.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "runtime/emulated_communicator.h"
#include "runtime/thread_communicator.h"
#include "runtime/traffic_recorder.h"
#include "tests/fresh_seed.h"

namespace unipool {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// 1024 bytes take a second.
constexpr ClusterDescription kCluster{.ranks_per_node = 2,
                                      .intra_node = {.latency_seconds = 0.25, .bytes_per_second = 1024},
                                      .inter_node = {.latency_seconds = 0.5, .bytes_per_second = 512}};

class TestRank {
 public:
  TestRank(std::unique_ptr<Communicator> carrier, std::shared_ptr<EmulatedWire> wire)
      : world(Emulate(std::move(carrier), std::move(wire), [this] { return cpu_seconds_; })),
        recorder({.rank = world.communicator->rank(),
                  .node_of_rank = NodesOf(world.communicator->size()),
                  .carrier = "emulated",
                  .board = nullptr,
                  .clock = {}}),
        communicator(recorder.RecordWorld(*world.communicator, "world")) {
    world.rank->ResetReport();
  }
  static std::vector<int> NodesOf(int size) {
    std::vector<int> nodes;
    for (int r = 0; r < size; ++r) nodes.push_back(kCluster.NodeOf(r));
    return nodes;
  }
  void Compute(double seconds) { cpu_seconds_ += seconds; }
  template <class Bytes>
  Communicator::Ticket Start(Bytes&& bytes, const char* operation) {
    const int size = communicator->size(), me = communicator->rank();
    std::vector<SendBlock> send(size);
    std::vector<RecvBlock> recv(size);
    for (int p = 0; p < size; ++p) {
      send[p] = {memory_.data(), bytes(me, p)};
      recv[p] = {memory_.data() + 4096 * (p + 1), bytes(p, me)};
    }
    return communicator->Start(send, recv, {.operation = operation});
  }

 private:
  double cpu_seconds_ = 1000;
  std::vector<char> memory_ = std::vector<char>(4096 * 9);

 public:
  EmulatedWorld world;
  TrafficRecorder recorder;
  std::unique_ptr<Communicator> communicator;
};

void RunRanks(int num_ranks, const std::function<void(TestRank&)>& body) {
  auto carriers = MakeThreadCommunicators(num_ranks, {.exchange = std::chrono::milliseconds{20'000}});
  const auto wire = MakeEmulatedWire(num_ranks, kCluster);
  std::vector<std::thread> threads;
  for (auto& carrier : carriers) {
    threads.emplace_back([&body, &wire, own = std::move(carrier)]() mutable {
      TestRank rank(std::move(own), wire);
      body(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Two ranks of one node, two slots, from time 0 on.
//
// Slot 0: both send 1024 bytes. Rank 0 starts at 0, rank 1 at 1, and both wait at once.
//   Rank 0: its block leaves 0 .. 1, that of rank 1 arrives 1.25 .. 2.25. Idle 1, exposed 1.25, hidden 0.
//   Rank 1: rank 0's block has arrived at 1.25, its own leaves 1 .. 2. Exposed 1. The wire alone takes 1.25,
//   so 0.25 is hidden.
// Slot 1: both send 512 bytes. Rank 0 starts at 2.25, rank 1 at 2, and both compute 0.25 before they wait.
//   Rank 0: waits at 2.5. Rank 1's block arrives 2.25 .. 2.75. Exposed 0.25 of 0.75.
//   Rank 1: waits at 2.25. Rank 0's block arrives 2.5 .. 3 and was started at 2.25. Exposed 0.75, idle 0.
TEST(TrafficEmulated, TwoSlotsByHand) {
  RunRanks(2, [](TestRank& r) {
    const int me = r.communicator->rank();
    r.recorder.KeepExchanges(10, 10);
    r.recorder.BeginStep(0);
    const auto nothing = [](int, int) { return int64_t{0}; };
    r.communicator->Wait(r.Start(nothing, "first use"));
    if (me == 1) r.Compute(1);
    r.communicator->Wait(r.Start([](int f, int t) { return int64_t{f == t ? 0 : 1024}; }, "slot 0"));
    const auto ticket = r.Start([](int f, int t) { return int64_t{f == t ? 0 : 512}; }, "slot 1");
    r.Compute(0.25);
    r.communicator->Wait(ticket);
    r.recorder.EndStep();
    const auto records = r.recorder.keep().records();
    ASSERT_EQ(records.size(), 3u);
    const ExchangeRecord& slot0 = records[1];
    EXPECT_EQ(slot0.start_ns, me * kSecond);
    EXPECT_EQ(slot0.wait_enter_ns, me * kSecond);
    EXPECT_EQ(slot0.wait_leave_ns, me == 0 ? kSecond * 9 / 4 : 2 * kSecond);
    EXPECT_EQ(slot0.idle_ns, me == 0 ? kSecond : 0);
    EXPECT_EQ(slot0.idle_receiver_ns, 0);
    EXPECT_EQ(slot0.wire_ns, kSecond * 5 / 4);
    EXPECT_EQ(slot0.cause, me == 0 ? 1 : -1);
    const ExchangeRecord& slot1 = records[2];
    EXPECT_EQ(slot1.start_ns, me == 0 ? kSecond * 9 / 4 : 2 * kSecond);
    EXPECT_EQ(slot1.wait_enter_ns, me == 0 ? kSecond * 5 / 2 : kSecond * 9 / 4);
    EXPECT_EQ(slot1.wait_leave_ns, me == 0 ? kSecond * 11 / 4 : 3 * kSecond);
    EXPECT_EQ(slot1.idle_ns, 0);
    const TrafficTotals& window = r.recorder.tally().window();
    EXPECT_TRUE(window.is_split());
    EXPECT_TRUE(window.has_wires());
    EXPECT_EQ(window.sum.idle_ns, me == 0 ? kSecond : 0);
    EXPECT_EQ(window.sum.exposed_ns, me == 0 ? kSecond * 3 / 2 : kSecond * 7 / 4);
    EXPECT_EQ(window.sum.hidden_ns, me == 0 ? kSecond / 2 : kSecond / 4);
    EXPECT_EQ(window.sum.bytes_intra, 1536);
    EXPECT_EQ(window.sum.bytes_inter, 0);
    EXPECT_EQ(r.recorder.tally().window_owed()[1], me == 0 ? kSecond : 0);
  });
}

// Random blocks and times on two nodes: the recorder around the emulation gives what the emulation reports.
TEST(TrafficEmulated, IsTheReportOfTheEmulation) {
  SCOPED_TRACE(SeedText());
  RunRanks(4, [](TestRank& r) {
    const int me = r.communicator->rank();
    std::mt19937_64 common(FreshSeed()), own(FreshSeed() + me);
    const auto no_bytes = [](int, int) { return int64_t{0}; };
    r.recorder.BeginStep(0);
    r.communicator->Wait(r.Start(no_bytes, "first use"));
    for (int e = 0; e < 60; ++e) {
      int64_t matrix[4][4];
      for (auto& row : matrix) {
        for (int64_t& bytes : row) bytes = common() % 2 ? 0 : static_cast<int64_t>(common() % 4096);
      }
      r.Compute(static_cast<double>(own() % 1024) / 512);
      const auto ticket = r.Start([&](int f, int t) { return matrix[f][t]; }, e % 2 ? "a" : "b");
      r.Compute(static_cast<double>(own() % 1024) / 256);
      r.communicator->Wait(ticket);
    }
    r.recorder.EndStep();
    const EmulationReport report = r.world.rank->Report();
    const TrafficCell& sum = r.recorder.tally().window().sum;
    const double tolerance = 1e-6;  // nanoseconds are rounded
    EXPECT_NEAR(1e-9 * static_cast<double>(sum.idle_ns), report.total.idle_seconds, tolerance);
    EXPECT_NEAR(1e-9 * static_cast<double>(sum.exposed_ns), report.total.exposed_seconds, tolerance);
    EXPECT_NEAR(1e-9 * static_cast<double>(sum.hidden_ns), report.total.hidden_seconds, tolerance);
    EXPECT_EQ(static_cast<double>(sum.bytes_intra + sum.bytes_inter), report.total.bytes_sent);
    EXPECT_EQ(static_cast<double>(sum.count), report.total.num_exchanges);
    EXPECT_GT(sum.idle_ns, 0);
    EXPECT_GT(sum.hidden_ns, 0);
  });
}

}  // namespace
}  // namespace unipool
