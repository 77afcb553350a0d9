#include "parallel/nccl_communicator.h"

#include <deque>

#include "runtime/world.h"
#include "tests/fresh_seed.h"
#include "tests/parallel/device/device_blocks.h"
#include "tests/parallel/device/fake_nccl.h"
#include "tests/parallel/device/hung_device.h"

namespace unipool {
namespace {

using emulation::kAllPolicies;
using emulation::RunPolicy;
using Journal = std::vector<std::string>;

constexpr std::chrono::milliseconds kTimeout{30'000};

// The body on every rank of worlds of 1 to 4 ranks, under every policy, with a wire and a journal per rank.
void OnAllDevices(
    const std::function<void(World&, DeviceRank&, std::shared_ptr<FakeNcclWire>, Journal&)>& body) {
  for (const RunPolicy policy : kAllPolicies) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      const auto wire = std::make_shared<FakeNcclWire>();
      const int exit_code = RunWorld({.num_threads = ranks, .timeout = kTimeout}, [&](World& world) {
        Journal journal;
        DeviceRank device(policy, FreshSeed() + world.rank());
        body(world, device, wire, journal);
      });
      ASSERT_TRUE(exit_code == 0 && !testing::Test::HasFailure())
          << NameOf(policy) << ", " << ranks << " ranks; " << SeedText();
    }
  }
}

// What one group has to be, by the sizes of the exchange and nothing else; empty: no group.
Journal ExpectedGroup(int e, const std::vector<int>& members, int rank) {
  Journal expected;
  const int size = static_cast<int>(members.size());
  for (int i = 1; i < size; ++i) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    const int64_t out = DeviceBlocks::Bytes(e, rank, to), in = DeviceBlocks::Bytes(e, from, rank);
    if (out > 0) expected.push_back(Format("send %d to %d", out, members[to]));
    if (in > 0) expected.push_back(Format("receive %d from %d", in, members[from]));
  }
  if (!expected.empty()) expected.insert(expected.begin(), "group");
  return expected;
}

// The calls that make the communicator: one group connects this rank with all others in both directions.
Journal ExpectedMaking(int rank, int size) {
  Journal expected{Format("init %d of %d", rank, size)};
  if (size > 1) expected.push_back("group");
  for (int i = 1; i < size; ++i) {
    expected.push_back(Format("send 1 to %d", (rank + i) % size));
    expected.push_back(Format("receive 1 from %d", (rank - i + size) % size));
  }
  for (const char* direction : {"from", "to"}) {
    for (int p = 0; p < size; ++p) {
      if (p != rank) expected.push_back(Format("connect %s %d", direction, p));
    }
  }
  return expected;
}

// No exchange connects ranks: the host would wait for a peer there. Two groups of the same ranks, one of
// them reversed, share NCCL's communicator: exchanges match in the order of their starts, and are waited for
// in any other.
TEST(NcclCommunicator, ExactSizesInOneOrder) {
  OnAllDevices([](World& world, DeviceRank& device, std::shared_ptr<FakeNcclWire> wire, Journal& journal) {
    constexpr int kUnderWay = 10, kRounds = 6;
    Journal expected = ExpectedMaking(world.rank(), world.size());
    {
      const auto traffic = std::make_shared<NcclTraffic>(
          std::make_unique<FakeNccl>(wire, journal), device.communication(), *world.communicator, kTimeout);
      std::unique_ptr<Communicator> groups[2];
      std::vector<int> members[2];
      for (int g = 0; g < 2; ++g) {
        const auto host = world.communicator->Split(0, g == 0 ? world.rank() : -world.rank());
        groups[g] = MakeNcclCommunicator(*host, world.rank(), traffic);
        for (int p = 0; p < world.size(); ++p) members[g].push_back(g == 0 ? p : world.size() - 1 - p);
      }
      std::deque<DeviceBlocks> blocks;
      for (int k = 0; k < kUnderWay; ++k) blocks.emplace_back(device, groups[k % 2]->rank(), world.size());
      const int64_t num_events = device.context.records().num_events;
      const size_t num_host_waits = device.context.records().host_waits.size();
      for (int round = 0; round < kRounds; ++round) {
        Communicator::Ticket tickets[kUnderWay];
        for (int k = 0; k < kUnderWay; ++k) {
          const int e = round * kUnderWay + k;
          tickets[k] = blocks[k].Start(*groups[k % 2], e);
          for (const std::string& line : ExpectedGroup(e, members[k % 2], groups[k % 2]->rank())) {
            expected.push_back(line);
          }
        }
        for (int i = 0; i < kUnderWay; ++i) {
          const int k =
              static_cast<int>(RandomPermutation(FreshSeed() + round * 8 + world.rank(), kUnderWay, i));
          groups[k % 2]->Wait(tickets[k]);
          blocks[k].CheckArrived(round * kUnderWay + k);
        }
      }
      // The host has waited for nothing since, and nothing was allocated.
      EXPECT_EQ(device.context.records().host_waits.size(), num_host_waits);
      EXPECT_EQ(device.context.records().num_events, num_events);
      EXPECT_EQ(device.context.records().num_pinned_allocations, 0);
      device.context.Drain();
      int64_t checked = 0;
      for (const DeviceBlocks& each : blocks) checked += each.num_checked_bytes();
      EXPECT_GT(checked, 0);
    }
    expected.insert(expected.end(), {"finalize", "destroy"});
    EXPECT_EQ(journal, expected);
  });
}

TEST(NcclCommunicator, NothingStartsNothing) {
  OnAllDevices([](World& world, DeviceRank& device, std::shared_ptr<FakeNcclWire> wire, Journal& journal) {
    const auto traffic = std::make_shared<NcclTraffic>(std::make_unique<FakeNccl>(wire, journal),
                                                       device.communication(), *world.communicator, kTimeout);
    const auto pool = MakeNcclCommunicator(*world.communicator, world.rank(), traffic);
    const std::vector<SendBlock> send(world.size());
    const std::vector<RecvBlock> recv(world.size());
    const int64_t num_operations = device.context.records().num_operations;
    for (int i = 0; i < 200; ++i) pool->Start(send, recv, {.operation = "nothing"});
    EXPECT_EQ(journal, ExpectedMaking(world.rank(), world.size()));
    EXPECT_EQ(device.context.records().num_operations, num_operations);
  });
}

TEST(NcclCommunicator, SumsAreTheHostsBitForBit) {
  OnAllDevices([](World& world, DeviceRank& device, std::shared_ptr<FakeNcclWire> wire, Journal& journal) {
    constexpr int64_t kCount = 10'007, kBytes = kCount * 4;
    const auto traffic = std::make_shared<NcclTraffic>(std::make_unique<FakeNccl>(wire, journal),
                                                       device.communication(), *world.communicator, kTimeout);
    const auto stage = MakeNcclCommunicator(*world.communicator, world.rank(), traffic);
    std::vector<float> values(kCount);
    for (int64_t i = 0; i < kCount; ++i) {
      values[i] = static_cast<float>(RandomNormal(FreshSeed() + world.rank(), i));
    }
    const std::vector<float> begin = values;
    world.communicator->AllReduceSum(Tensor(values.data(), DType::kF32, {kCount}), {});

    const Buffer memory = device.Allocate(kBytes);
    const emulation::Access access{memory.data(), kBytes, true};
    device.Compute("fill", {access}, [&] { std::memcpy(memory.data(), begin.data(), kBytes); });
    stage->AllReduceSum(Tensor(memory.data(), DType::kF32, {kCount}), {.operation = "gradients"});
    int64_t wrong = -1;
    device.Compute("check", {access}, [&] {
      wrong = 0;
      for (int64_t i = 0; i < kCount; ++i) wrong += static_cast<float*>(memory.data())[i] != values[i];
    });
    device.context.Drain();
    EXPECT_EQ(wrong, 0) << "of " << kCount;
    EXPECT_EQ(values != begin, world.size() > 1);
  });
}

// ---- How the job ends

// Starts three exchanges of two ranks; the device hangs before the second. Then the host waits for the
// device. Only rank 0 is impatient. A rank that does not come is rank 1, and a group fails on rank 0.
void RunTo(FakeNccl::Options options, bool hang, bool third) {
  options.moves_nothing = true;
  const auto wire = std::make_shared<FakeNcclWire>();
  RunWorld({.num_threads = 2, .timeout = std::chrono::milliseconds(20'000)}, [&](World& world) {
    HungDevice device;
    MemoryMeter memory(&device);
    Stream compute(memory, CudaQueue{.stream = &device, .memory = &device});
    Journal journal;
    FakeNccl::Options mine = options;
    if (world.rank() == 0) mine.stays_away = mine.connects_none = false;
    if (world.rank() == 1) mine.fails_at_group = -1;
    const auto traffic = std::make_shared<NcclTraffic>(
        std::make_unique<FakeNccl>(wire, journal, mine), CommunicationDevice{device, compute, memory},
        *world.communicator, std::chrono::milliseconds(world.rank() == 0 ? 300 : 20'000));
    const auto pool = MakeNcclCommunicator(*world.communicator, world.rank(), traffic);
    char bytes[4] = {};
    std::vector<SendBlock> send(2);
    std::vector<RecvBlock> recv(2);
    send[1 - world.rank()] = {bytes, 2};
    recv[1 - world.rank()] = {bytes + 2, 2};
    pool->Exchange(send, recv, {.operation = "dispatch forward", .step = 7, .slot = 2});
    if (hang) device.Hang();
    if (world.rank() == 1) world.communicator->Barrier({.operation = "never"});  // rank 0 tells
    pool->Exchange(send, recv, {.operation = "combine forward", .step = 7, .slot = 3});
    if (third) pool->Exchange(send, recv, {.operation = "dispatch backward", .step = 7, .slot = 3});
    const DeviceContext::Event counts = device.MakeEvent();
    device.Record(counts, DeviceQueue::kCompute);
    device.WaitOnHost(counts, {.operation = "row counts", .step = 7, .slot = 4});
    world.communicator->Barrier({.operation = "never"});
  });
}

class NcclDeathTest : public testing::Test {
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(NcclDeathTest, TheOldestExchangeThatIsNotDoneIsNamed) {
  EXPECT_EXIT(RunTo({}, true, true), testing::ExitedWithCode(kStuckExitCode),
              "stuck: rank 0 has waited .* s in 'combine forward', step 7, slot 3 for rank 1. The job ends");
}

TEST_F(NcclDeathTest, APeerThatIsNotThereWhenTheCommunicatorIsMadeIsNamed) {
  EXPECT_EXIT(RunTo({.stays_away = true}, false, false), testing::ExitedWithCode(kStuckExitCode),
              "stuck: rank 0 has waited .* s in 'making NCCL's communicator' for rank 1. The job ends");
}

TEST_F(NcclDeathTest, APeerThatDoesNotConnectIsNamed) {
  EXPECT_EXIT(RunTo({.connects_none = true}, false, false), testing::ExitedWithCode(kStuckExitCode),
              "stuck: rank 0 has waited .* s in 'connecting ranks by NCCL' for rank 1. The job ends");
}

// Rank 0 ends its communicator, which waits for all ranks, and the others do not come.
void EndAlone() {
  const auto wire = std::make_shared<FakeNcclWire>();
  RunWorld({.num_threads = 3, .timeout = std::chrono::milliseconds(20'000)}, [&](World& world) {
    DeviceRank device(RunPolicy::kEager, 1);
    Journal journal;
    const auto traffic = std::make_shared<NcclTraffic>(
        std::make_unique<FakeNccl>(wire, journal), device.communication(), *world.communicator,
        std::chrono::milliseconds(world.rank() == 0 ? 300 : 20'000));
    if (world.rank() > 0) world.communicator->Barrier({.operation = "never"});
  });
}

TEST_F(NcclDeathTest, PeersThatDoNotEndTheCommunicatorAreNamed) {
  EXPECT_EXIT(EndAlone(), testing::ExitedWithCode(kStuckExitCode),
              "stuck: rank 0 has waited .* s in 'ending NCCL's communicator' for ranks 1, 2. The job ends");
}

TEST_F(NcclDeathTest, AnErrorWhileRanksConnectIsTold) {
  EXPECT_EXIT(RunTo({.fails_at_group = 0}, false, false), testing::ExitedWithCode(kStuckExitCode),
              "NCCL failed on rank 0 in 'connecting ranks by NCCL', between it and rank 1: remote process");
}

TEST_F(NcclDeathTest, AnAsynchronousErrorIsTold) {
  EXPECT_EXIT(
      RunTo({.fails_at_group = 2}, false, false), testing::ExitedWithCode(kStuckExitCode),
      "NCCL failed on rank 0 in 'combine forward', step 7, slot 3, between it and rank 1: remote process "
      "exited or there was a network error. The job ends");
}

}  // namespace
}  // namespace unipool
