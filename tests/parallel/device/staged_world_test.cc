#include "tests/parallel/device/staged_rank.h"
#include "tests/parallel/shared_seed.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

using emulation::kAllPolicies;

TEST(StagedWorld, EveryByteArrivesInAnyOrder) {
  RunOnRanks([](World& world) {
    const uint64_t seed = SharedSeed(world);
    for (const auto policy : kAllPolicies) {
      StagedRank rank(world, policy, seed);
      ExchangeInAnyOrder(world, rank, 8, seed);
    }
  });
}

TEST(StagedWorld, SumsAreTheHostsBitForBit) {
  RunOnRanks([](World& world) {
    const uint64_t seed = SharedSeed(world);
    for (const auto policy : kAllPolicies) {
      StagedRank rank(world, policy, seed, {.round_bytes = 1 << 10});
      const auto stage = rank.Split(world, world.rank());
      ExpectHostsBits<float>(world, rank, *stage, 50'001, DType::kF32, seed);
    }
  });
}

}  // namespace
}  // namespace unipool
