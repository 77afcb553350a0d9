#include "parallel/staged_communicator.h"

#include "tests/fresh_seed.h"
#include "tests/parallel/device/hung_device.h"
#include "tests/parallel/device/staged_rank.h"

namespace unipool {
namespace {

using emulation::kAllPolicies;
using emulation::RunPolicy;

// The body on every rank of worlds of 1 to 4 ranks, under every policy.
void OnAllDevices(const std::function<void(World&, RunPolicy, uint64_t seed)>& body) {
  const uint64_t seed = FreshSeed();
  for (const RunPolicy policy : kAllPolicies) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      const WorldOptions options{.num_threads = ranks, .timeout = std::chrono::milliseconds(30'000)};
      const int exit_code = RunWorld(options, [&](World& world) { body(world, policy, seed); });
      ASSERT_TRUE(exit_code == 0 && !testing::Test::HasFailure())
          << NameOf(policy) << ", " << ranks << " ranks; " << SeedText();
    }
  }
}

TEST(StagedCommunicator, EveryByteArrivesInAnyOrder) {
  OnAllDevices([](World& world, RunPolicy policy, uint64_t seed) {
    StagedRank rank(world, policy, seed);
    ExchangeInAnyOrder(world, rank, 8, seed);
  });
}

// A rank that only receives waits for nothing on its device: pinned memory is not filled anew while a copy
// from it is still to be done.
TEST(StagedCommunicator, PinnedMemoryWaitsForItsReader) {
  OnAllDevices([](World& world, RunPolicy policy, uint64_t seed) {
    constexpr int kExchanges = 12;
    StagedRank rank(world, policy, seed);
    const auto pool = rank.Split(world, world.rank());
    const Buffer memory = rank.device.Allocate(kExchanges * sizeof(int64_t));
    auto* numbers = static_cast<int64_t*>(memory.data());
    const std::vector<emulation::Access> all{{numbers, memory.max_bytes(), true}};
    const int to = world.rank() + 1, from = world.rank() - 1;  // the last only receives
    rank.device.Compute("fill", all, [=] {
      for (int e = 0; e < kExchanges; ++e) numbers[e] = from < 0 ? 100 + e : -1;
    });
    for (int e = 0; e < kExchanges; ++e) {
      for (int sender = 0; sender + 1 < world.size(); ++sender) {
        std::vector<SendBlock> send(world.size());
        std::vector<RecvBlock> recv(world.size());
        if (sender == world.rank()) send[to] = {numbers + e, sizeof(int64_t)};
        if (sender == from) recv[from] = {numbers + e, sizeof(int64_t)};
        pool->Exchange(send, recv, {.operation = "to the right", .step = e, .slot = sender});
      }
    }
    rank.device.Compute("check", all, [=] {
      for (int e = 0; e < kExchanges; ++e) EXPECT_EQ(numbers[e], 100 + e);
    });
    rank.device.context.Drain();
  });
}

// The same where what came is copied by the compute queue, because a later exchange is still to be copied
// out.
TEST(StagedCommunicator, PinnedMemoryWaitsForAReaderInTheComputeQueue) {
  OnAllDevices([](World& world, RunPolicy policy, uint64_t seed) {
    if (world.size() != 2) return;
    constexpr int kExchanges = 12;
    StagedRank rank(world, policy, seed);
    const auto pool = rank.Split(world, world.rank());
    const Buffer memory = rank.device.Allocate(2 * kExchanges * sizeof(int64_t));
    auto* numbers = static_cast<int64_t*>(memory.data());
    const std::vector<emulation::Access> all{{numbers, memory.max_bytes(), true}};
    const int other = 1 - world.rank();
    rank.device.Compute("fill", all, [=, mine = world.rank()] {
      for (int i = 0; i < 2 * kExchanges; ++i) numbers[i] = i % 2 == mine ? 100 + i : -1;
    });
    Communicator::Ticket tickets[2];
    for (int i = 0; i < 2 * kExchanges; ++i) {  // number i goes from rank i % 2 to the other
      std::vector<SendBlock> send(2);
      std::vector<RecvBlock> recv(2);
      if (i % 2 == world.rank()) send[other] = {numbers + i, sizeof(int64_t)};
      if (i % 2 == other) recv[other] = {numbers + i, sizeof(int64_t)};
      tickets[i % 2] = pool->Start(send, recv, {.operation = "there and back", .step = i});
      if (i % 2 == 0) continue;
      pool->Wait(tickets[0]);
      pool->Wait(tickets[1]);
    }
    rank.device.Compute("check", all, [=] {
      for (int i = 0; i < 2 * kExchanges; ++i) EXPECT_EQ(numbers[i], 100 + i);
    });
    rank.device.context.Drain();
  });
}

// Steps that are alike allocate nothing and make no events, however late the device is.
TEST(StagedCommunicator, SteadyStateAllocatesNothing) {
  OnAllDevices([](World& world, RunPolicy policy, uint64_t seed) {
    StagedRank rank(world, policy, seed, {.round_bytes = 1 << 10});
    const auto pool = rank.Split(world, world.rank()), stage = rank.Split(world, world.rank());
    std::deque<DeviceBlocks> blocks;
    for (int k = 0; k < 4; ++k) blocks.emplace_back(rank.device, world.rank(), world.size());
    const Buffer grads = rank.device.Allocate(80'000);
    const auto step = [&] {
      Communicator::Ticket tickets[4];
      for (int k = 0; k < 4; ++k) {
        tickets[k] = blocks[k].Start(*pool, k);
        if (k == 0) continue;
        pool->Wait(tickets[k - 1]);
        blocks[k - 1].CheckArrived(k - 1);
      }
      pool->Wait(tickets[3]);
      stage->AllReduceSum(Tensor(grads.data(), DType::kF32, {20'000}), {.operation = "gradients"});
    };
    for (int i = 0; i < 2; ++i) step();
    const auto before = rank.device.context.records();
    const int64_t pinned = rank.traffic->pinned_bytes();
    EXPECT_EQ(pinned, world.memory->current_bytes(MemoryKind::kExchange));
    EXPECT_EQ(pinned > 0, world.size() > 1);
    for (int i = 0; i < 4; ++i) step();
    const auto& after = rank.device.context.records();
    EXPECT_EQ(after.num_pinned_allocations, before.num_pinned_allocations);
    EXPECT_EQ(after.num_allocations, before.num_allocations);
    EXPECT_EQ(after.num_events, before.num_events);
    EXPECT_EQ(after.num_drains, before.num_drains);
    EXPECT_EQ(rank.traffic->pinned_bytes(), pinned);
    EXPECT_GT(after.num_operations, before.num_operations);
    rank.device.context.Drain();
  });
}

// A block of nothing costs nothing: no work on the device, no pinned memory.
TEST(StagedCommunicator, NothingCostsNothing) {
  OnAllDevices([](World& world, RunPolicy policy, uint64_t seed) {
    StagedRank rank(world, policy, seed);
    const auto pool = rank.Split(world, world.rank());
    const int64_t before = rank.device.context.records().num_operations;
    const std::vector<SendBlock> send(world.size());
    const std::vector<RecvBlock> recv(world.size());
    for (int i = 0; i < 40; ++i) pool->Exchange(send, recv, {.operation = "nothing"});
    EXPECT_EQ(rank.device.context.records().num_operations, before);
    EXPECT_EQ(rank.device.context.records().num_pinned_allocations, 0);
  });
}

TEST(StagedCommunicator, SumsAreTheHostsBitForBit) {
  OnAllDevices([](World& world, RunPolicy policy, uint64_t seed) {
    StagedRank rank(world, policy, seed, {.round_bytes = 1 << 10});
    const auto stage = rank.Split(world, world.rank());
    ExpectHostsBits<float>(world, rank, *stage, 0, DType::kF32, seed);
    ExpectHostsBits<float>(world, rank, *stage, 3, DType::kF32, seed);
    ExpectHostsBits<float>(world, rank, *stage, 70'001, DType::kF32, seed);  // 2 rounds of 64 KiB at 4 ranks
    ExpectHostsBits<double>(world, rank, *stage, 30'003, DType::kF64, seed);
    EXPECT_EQ(rank.device.memory.current_bytes(MemoryKind::kExchange) > 0, world.size() > 1);
  });
}

// ---- How the job ends

TEST(StagedCommunicatorDeathTest, ARankThatDoesNotComeIsNamed) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto run = [] {
    RunWorld({.num_threads = 3, .timeout = std::chrono::milliseconds(500)}, [](World& world) {
      StagedRank rank(world, RunPolicy::kLate, 1, {.timeout = std::chrono::milliseconds(500)});
      const auto pool = rank.Split(world, world.rank());
      if (world.rank() == 1) {
        for (volatile int64_t i = 0;;) i = i + 1;
      }
      const Buffer memory = rank.device.Allocate(2 * 3 * 64);
      std::vector<SendBlock> send(3);
      std::vector<RecvBlock> recv(3);
      for (int p = 0; p < 3; ++p) {
        send[p] = {static_cast<char*>(memory.data()) + 64 * p, 64};
        recv[p] = {static_cast<char*>(memory.data()) + 64 * (3 + p), 64};
      }
      pool->Exchange(send, recv, {.operation = "combine forward", .step = 7, .slot = 3});
    });
  };
  EXPECT_EXIT(
      run(), testing::ExitedWithCode(kStuckExitCode),
      "stuck: rank [02] has waited .* in 'combine forward', step 7, slot 3 for rank 1; no sign of life "
      "from rank 1");
}

TEST(StagedCommunicatorDeathTest, ADeviceThatHangsIsNamed) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto run = [] {
    RunWorld({.num_threads = 2}, [](World& world) {
      HungDevice device;
      MemoryMeter memory(&device);
      Stream compute(memory, CudaQueue{.stream = &device, .memory = &device});
      const auto traffic = std::make_shared<StagedTraffic>(
          CommunicationDevice{device, compute, memory}, *world.communicator, *world.memory,
          StagedOptions{.timeout = std::chrono::milliseconds(300)});
      const auto pool = MakeStagedCommunicator(world.communicator->Split(0, world.rank()), traffic);
      char bytes[4] = {};
      std::vector<SendBlock> send(2);
      std::vector<RecvBlock> recv(2);
      send[1 - world.rank()] = {bytes, 2};
      recv[1 - world.rank()] = {bytes + 2, 2};
      if (world.rank() == 1) device.Hang();
      pool->Exchange(send, recv, {.operation = "dispatch backward", .step = 9, .slot = 1});
    });
  };
  EXPECT_EXIT(
      run(), testing::ExitedWithCode(kStuckExitCode),
      "stuck: rank 1 has waited .* s for its device in 'dispatch backward', step 9, slot 1. The job ends");
}

TEST(StagedCommunicatorDeathTest, ValuesOfTheHostAreRefused) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto run = [] {
    RunWorld({.num_threads = 1}, [](World& world) {
      StagedRank rank(world, RunPolicy::kEager, 1);
      rank.Split(world, 0)->Barrier({.operation = "begin of the step"});
    });
  };
  EXPECT_DEATH(run(), "'begin of the step' has values of the host");
}

}  // namespace
}  // namespace unipool
