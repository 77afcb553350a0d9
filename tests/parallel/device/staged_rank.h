// A rank that exchanges device memory through pinned memory, and what is asked of all such ranks, as threads
// and as processes.
#pragma once

#include <deque>

#include "parallel/staged_communicator.h"
#include "runtime/world.h"
#include "tests/parallel/device/device_blocks.h"

namespace unipool {

struct StagedRank {
  StagedRank(World& world, emulation::RunPolicy policy, uint64_t seed, StagedOptions options = {})
      : device(policy, seed + world.rank()),
        traffic(std::make_shared<StagedTraffic>(device.communication(), *world.communicator, *world.memory,
                                                options)),
        host_split(world.communicator->Split(0, world.rank())),
        host(MakeHostGate(*host_split, traffic)) {}
  std::unique_ptr<Communicator> Split(World& world, int key) {
    return MakeStagedCommunicator(world.communicator->Split(0, key), traffic);
  }
  DeviceRank device;
  std::shared_ptr<StagedTraffic> traffic;
  std::unique_ptr<Communicator> host_split, host;
};

// Rounds of several exchanges under way over two communicators, the second with its ranks reversed, and the
// host's in between; waited for in an order that differs from rank to rank.
inline void ExchangeInAnyOrder(World& world, StagedRank& rank, int num_rounds, uint64_t seed) {
  constexpr int kUnderWay = 10;
  const auto forward = rank.Split(world, world.rank()), reversed = rank.Split(world, -world.rank());
  Communicator* communicators[2] = {forward.get(), reversed.get()};
  std::deque<DeviceBlocks> blocks;
  for (int k = 0; k < kUnderWay; ++k) {
    blocks.emplace_back(rank.device, communicators[k % 2]->rank(), world.size());
  }
  std::vector<int64_t> sums(world.size());
  for (int round = 0; round < num_rounds; ++round) {
    Communicator::Ticket tickets[kUnderWay];
    for (int k = 0; k < kUnderWay; ++k) {
      tickets[k] = blocks[k].Start(*communicators[k % 2], round * kUnderWay + k);
      if (k % 4 != 2) continue;
      EXPECT_EQ(rank.host->AllReduceMax(world.rank() + k, {}), world.size() - 1 + k);
    }
    for (int i = 0; i < kUnderWay; ++i) {
      const int k = static_cast<int>(RandomPermutation(seed + round * 8 + world.rank(), kUnderWay, i));
      communicators[k % 2]->Wait(tickets[k]);
      blocks[k].CheckArrived(round * kUnderWay + k);
    }
  }
  rank.device.context.Drain();
  int64_t checked = 0;
  for (const DeviceBlocks& each : blocks) checked += each.num_checked_bytes();
  EXPECT_GT(checked, 0);
}

// Sums and gathers give the host's bits, in several rounds.
template <class T>
void ExpectHostsBits(World& world, StagedRank& rank, Communicator& device, int64_t count, DType dtype,
                     uint64_t seed) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  std::vector<T> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<T>(RandomNormal(seed + world.rank(), i) * std::exp2(RandomBits(seed, i) % 30));
  }
  const Buffer memory = rank.device.Allocate(bytes);
  const emulation::Access access{memory.data(), bytes, true};
  const std::vector<T> begin = values;
  rank.device.Compute("fill", {access}, [&] { std::memcpy(memory.data(), begin.data(), bytes); });

  const Tensor on_device(memory.data(), dtype, {count});
  const ExchangeLabel label{.operation = "gradients", .step = 3};
  device.ReduceScatterSum(on_device, label);
  device.AllGatherParts(on_device, label);
  world.communicator->AllReduceSum(Tensor(values.data(), dtype, {count}), label);
  int64_t wrong = -1;
  rank.device.Compute("check", {access}, [&] {
    wrong = 0;
    for (int64_t i = 0; i < count; ++i) wrong += static_cast<T*>(memory.data())[i] != values[i];
  });
  rank.device.context.Drain();
  EXPECT_EQ(wrong, 0) << "of " << count << " numbers";
  EXPECT_EQ(values != begin, world.size() > 1 && count > 0);
}

}  // namespace unipool
