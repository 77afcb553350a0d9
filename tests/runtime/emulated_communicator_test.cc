// The arithmetic of the emulated world, exactly: processor time is what a test says, and all numbers are sums
// of powers of two.
#include "runtime/emulated_communicator.h"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/random.h"
#include "runtime/thread_communicator.h"

namespace unipool {
namespace {

// One rank of a test. Blocks are as long as the test says; each byte tells its sender.
class TestRank {
 public:
  TestRank(std::unique_ptr<Communicator> carrier, std::shared_ptr<EmulatedWire> wire)
      : world_(Emulate(std::move(carrier), std::move(wire), [this] { return cpu_seconds_; })) {}
  int rank() const { return communicator().rank(); }
  Communicator& communicator() const { return *world_.communicator; }
  EmulatedRank& emulation() const { return *world_.rank; }
  void Compute(double seconds) { cpu_seconds_ += seconds; }
  double Now() const { return world_.rank->Now(); }
  EmulatedCost Total() const { return world_.rank->Report().total; }

  struct Pending {
    Communicator* communicator = nullptr;
    Communicator::Ticket ticket = 0;
    std::vector<std::vector<char>> in, out;
  };
  // bytes(from, to) in ranks of `communicator`.
  template <class Bytes>
  Pending Start(Communicator& communicator, Bytes&& bytes, const char* operation = "test") {
    Pending x{.communicator = &communicator};
    std::vector<SendBlock> send;
    std::vector<RecvBlock> recv;
    for (int p = 0; p < communicator.size(); ++p) {
      x.out.emplace_back(bytes(communicator.rank(), p), static_cast<char>('A' + communicator.rank()));
      x.in.emplace_back(bytes(p, communicator.rank()), '?');
      send.push_back({x.out[p].data(), static_cast<int64_t>(x.out[p].size())});
      recv.push_back({x.in[p].data(), static_cast<int64_t>(x.in[p].size())});
    }
    x.ticket = communicator.Start(send, recv, {.operation = operation});
    return x;
  }
  template <class Bytes>
  Pending Start(Bytes&& bytes) {
    return Start(communicator(), bytes);
  }
  void Wait(const Pending& x) {
    x.communicator->Wait(x.ticket);
    for (size_t p = 0; p < x.in.size(); ++p) {
      EXPECT_EQ(x.in[p], std::vector<char>(x.in[p].size(), static_cast<char>('A' + p)));
    }
  }

 private:
  double cpu_seconds_ = 1000;  // a thread's processor time does not begin at 0
  EmulatedWorld world_;
};

void RunRanks(int num_ranks, const ClusterDescription& cluster, const std::function<void(TestRank&)>& body) {
  auto carriers = MakeThreadCommunicators(num_ranks, {.exchange = std::chrono::milliseconds{20'000}});
  const auto wire = MakeEmulatedWire(num_ranks, cluster);
  std::vector<std::thread> threads;
  for (auto& carrier : carriers) {
    threads.emplace_back([&body, &wire, own = std::move(carrier)]() mutable {
      TestRank rank(std::move(own), wire);
      body(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// 1024 bytes take a second.
constexpr WireDescription kSlow{.latency_seconds = 0.25, .bytes_per_second = 1024};
constexpr ClusterDescription kOneNode{.intra_node = kSlow};

// Only rank `from` sends, `bytes` to rank `to`.
auto Only(int from, int to, int64_t bytes) {
  return [=](int f, int t) { return f == from && t == to ? bytes : 0; };
}

TEST(EmulatedCommunicator, ABlockTakesLatencyAndBandwidthAfterItsSenderStarts) {
  RunRanks(2, kOneNode, [](TestRank& r) {
    if (r.rank() == 0) r.Compute(1);
    r.Wait(r.Start(Only(0, 1, 1024)));
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 2 : 2.25);  // the sender waits until the block has left
    const EmulatedCost cost = r.Total();
    EXPECT_EQ(cost.idle_seconds, r.rank() == 0 ? 0 : 1);
    EXPECT_EQ(cost.exposed_seconds, r.rank() == 0 ? 1 : 1.25);
    EXPECT_EQ(cost.hidden_seconds, r.rank() == 0 ? 0.25 : 0);
    EXPECT_EQ(cost.bytes_sent, r.rank() == 0 ? 1024 : 0);
  });
}

TEST(EmulatedCommunicator, ComputeHidesTheWireAsFarAsItReaches) {
  RunRanks(2, kOneNode, [](TestRank& r) {
    const auto both = [](int f, int t) { return f == t ? 0 : 2048; };
    auto x = r.Start(both);
    r.Compute(r.rank() == 0 ? 1.5 : 4);
    r.Wait(x);
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 2.25 : 4);
    const EmulatedCost cost = r.Total();
    EXPECT_EQ(cost.idle_seconds, 0);
    EXPECT_EQ(cost.exposed_seconds, r.rank() == 0 ? 0.75 : 0);
    EXPECT_EQ(cost.hidden_seconds, r.rank() == 0 ? 1.5 : 2.25);
    const EmulationReport report = r.emulation().Report();
    EXPECT_EQ(report.compute_seconds, r.rank() == 0 ? 1.5 : 4);
    EXPECT_EQ(report.virtual_seconds,
              report.compute_seconds + report.total.idle_seconds + report.total.exposed_seconds);
  });
}

TEST(EmulatedCommunicator, BlocksOfOneSenderLeaveOneAfterTheOther) {
  RunRanks(3, kOneNode, [](TestRank& r) {
    // From rank 1: first to rank 2, then to rank 0.
    r.Wait(r.Start([](int f, int t) { return f == 1 && t != 1 ? (t == 2 ? 1024 : 2048) : 0; }));
    const double expected[] = {3.25, 3, 1.25};
    EXPECT_EQ(r.Now(), expected[r.rank()]);
  });
}

TEST(EmulatedCommunicator, BlocksForOneReceiverArriveOneAfterTheOther) {
  RunRanks(3, kOneNode, [](TestRank& r) {
    if (r.rank() == 2) r.Compute(0.5);
    r.Wait(r.Start([](int f, int t) { return f != 0 && t == 0 ? 1024 : 0; }));
    const double expected[] = {2.25, 1, 1.5};
    EXPECT_EQ(r.Now(), expected[r.rank()]);
    if (r.rank() != 0) return;
    EXPECT_EQ(r.Total().idle_seconds, 0.5);  // until rank 2, whose block came last, had started
    EXPECT_EQ(r.Total().exposed_seconds, 1.75);
  });
}

TEST(EmulatedCommunicator, NodesHaveWiresOfTheirOwn) {
  const ClusterDescription cluster{.ranks_per_node = 2,
                                   .intra_node = {.latency_seconds = 0.125, .bytes_per_second = 4096},
                                   .inter_node = {.latency_seconds = 0.5, .bytes_per_second = 512}};
  RunRanks(4, cluster, [](TestRank& r) {
    r.Wait(r.Start(Only(1, 0, 4096)));  // in one node
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 1.125 : r.rank() == 1 ? 1 : 0);
    r.emulation().ResetReport();
    r.Wait(r.Start(Only(3, 1, 1024)));  // between nodes
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 1.125 : r.rank() == 1 ? 2.5 : r.rank() == 3 ? 2 : 0);
    EXPECT_EQ(r.emulation().Report().total.exposed_seconds, r.rank() == 1 ? 1.5 : r.rank() == 3 ? 2 : 0);
  });
  RunRanks(4, cluster, [](TestRank& r) {  // both at once: neither is in the other's way
    r.Wait(r.Start([](int f, int t) { return f != 0 || t == 0 ? 0 : t == 1 ? 4096 : t == 2 ? 1024 : 0; }));
    const double expected[] = {2, 1.125, 2.5, 0};
    EXPECT_EQ(r.Now(), expected[r.rank()]);
  });
}

TEST(EmulatedCommunicator, AnInfinitelyFastWireCostsOnlyTheWaitForTheLatest) {
  RunRanks(4, {}, [](TestRank& r) {
    r.Compute(r.rank());
    r.Wait(r.Start([](int, int) { return 100'000; }));
    EXPECT_EQ(r.Now(), 3);
    EXPECT_EQ(r.Total().idle_seconds, 3 - r.rank());
    EXPECT_EQ(r.Total().exposed_seconds + r.Total().hidden_seconds, 0);
  });
}

TEST(EmulatedCommunicator, SplitsShareClockAndLinks) {
  RunRanks(3, kOneNode, [](TestRank& r) {
    const auto pair = r.communicator().Split(r.rank() == 2 ? 1 : 0, -r.rank());  // ranks 1, 0
    EXPECT_EQ(r.Now(), 0);
    auto first = r.Start(Only(0, 2, 1024));
    if (r.rank() == 2) {
      r.Wait(first);
      EXPECT_EQ(r.Now(), 1.25);
      return;
    }
    auto second = r.Start(*pair, Only(1, 0, 1024), "pair");  // job rank 0 to job rank 1
    r.Compute(0.5);
    r.Wait(second);
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 2 : 2.25);
    r.Wait(first);
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 2 : 2.25);
    const auto reports = GatherReports(*pair, r.emulation().Report());
    ASSERT_EQ(reports.size(), 2u);
    const EmulationReport& of_0 = reports[1];
    ASSERT_GE(of_0.operations.size(), 2u);
    EXPECT_EQ(of_0.operations[0].first, "test");
    EXPECT_EQ(of_0.operations[1].first, "pair");
    EXPECT_EQ(of_0.operations[1].second.bytes_sent, 1024);
    EXPECT_EQ(of_0.operations[1].second.exposed_seconds, 1.5);
    EXPECT_EQ(reports[0].operations[1].second.exposed_seconds, 1.75);
    EXPECT_EQ(of_0.total.bytes_sent, 2048);
  });
}

TEST(EmulatedCommunicator, WhatIsWaitedForLaterMayHaveComeEarlier) {
  RunRanks(2, kOneNode, [](TestRank& r) {
    auto early = r.Start(Only(0, 1, 1024));  // arrives from 0.25 to 1.25
    r.Compute(r.rank() == 0 ? 3 : 0);
    auto late = r.Start(Only(0, 1, 1024));  // from 3.25 to 4.25
    r.Wait(late);
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 4 : 4.25);
    r.Wait(early);
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 4 : 4.25);
    EXPECT_EQ(r.Total().idle_seconds, r.rank() == 0 ? 0 : 3);
    EXPECT_EQ(r.Total().exposed_seconds, r.rank() == 0 ? 1 : 1.25);
  });
}

TEST(EmulatedCommunicator, AFasterDeviceIsAScale) {
  RunRanks(2, {.intra_node = kSlow, .compute_scale = 0.125}, [](TestRank& r) {
    if (r.rank() == 0) r.Compute(8);
    r.Wait(r.Start(Only(0, 1, 1024)));
    EXPECT_EQ(r.Now(), r.rank() == 0 ? 2 : 2.25);
    EXPECT_EQ(r.emulation().Report().compute_seconds, r.rank() == 0 ? 1 : 0);
  });
}

TEST(EmulatedCommunicator, SumsAreExchangesLikeOthers) {
  RunRanks(4, kOneNode, [](TestRank& r) {
    std::vector<double> values(1024, r.rank() + 1);
    r.communicator().AllReduceSum(Tensor(values.data(), DType::kF64, {1024}), {.operation = "sum"});
    EXPECT_EQ(values, std::vector<double>(1024, 10));
    // Twice three blocks of 2048 bytes, one after the other, everybody alike.
    EXPECT_EQ(r.Now(), 2 * (0.25 + 3 * 2));
    EXPECT_EQ(r.Total().bytes_sent, 2 * 3 * 2048);
  });
}

TEST(EmulatedCommunicator, EverythingButProcessorTimeIsDeterministic) {
  std::vector<double> first;
  for (int run = 0; run < 3; ++run) {
    std::vector<double> ends(4);
    RunRanks(4, {.ranks_per_node = 2, .intra_node = kSlow, .inter_node = {0.5, 300}}, [&](TestRank& r) {
      const auto other = r.communicator().Split(r.rank() % 2, 0);
      for (int e = 0; e < 40; ++e) {
        const auto bytes = [&](int f, int t) { return RandomBits(5, e * 16 + f * 4 + t) % 3 * 100; };
        auto a = r.Start(bytes);
        r.Compute(RandomUniform(9, e * 4 + r.rank()));
        auto b = r.Start(*other, bytes);
        r.Wait(e % 2 ? a : b);
        r.Compute(RandomUniform(8, e * 4 + r.rank()));
        r.Wait(e % 2 ? b : a);
      }
      ends[r.rank()] = r.Now();
    });
    if (run == 0) first = ends;
    EXPECT_EQ(ends, first);
    for (double end : ends) EXPECT_GT(end, 40);
  }
}

}  // namespace
}  // namespace unipool
