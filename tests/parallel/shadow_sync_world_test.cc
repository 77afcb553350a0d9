// Weights and gradients tell expert and column, so a row at a wrong place or with a wrong piece shows.
#include <random>

#include "parallel/shadow_sync.h"
#include "tests/parallel/recording_communicator.h"
#include "tests/parallel/shared_seed.h"
#include "tests/parallel/shuffled_placement.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

double Value(int expert, int64_t column) {
  return expert * 1e6 + static_cast<double>(column);
}

// Random owners, and on each rank shadows of other ranks' experts.
ExpertPlacement RandomShadows(int experts, int ranks, int room, std::mt19937_64& random) {
  const ExpertPlacement owners = Shuffled(ContiguousPlacement(experts, ranks), random);
  std::vector<int> owner;
  for (int e = 0; e < experts; ++e) owner.push_back(owners.owner(e));
  std::vector<std::vector<int>> shadows(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    for (int i = 0; i < 8 && static_cast<int>(shadows[rank].size()) < room; ++i) {
      const int expert = static_cast<int>(random() % experts);
      const bool is_there =
          std::find(shadows[rank].begin(), shadows[rank].end(), expert) != shadows[rank].end();
      if (owner[expert] != rank && !is_there) shadows[rank].push_back(expert);
    }
    shadows[rank].resize(room, -1);
  }
  return ExpertPlacement(owner, ranks, {.of_rank = shadows, .shares = {}});
}

TEST(ShadowSync, WeightsComeAndGradientsGoBack) {
  RunOnRanks([](World& world) {
    const uint64_t seed = SharedSeed(world);
    SCOPED_TRACE(SeedText(seed));
    std::mt19937_64 random(seed);
    const int rank = world.rank(), ranks = world.size();
    ExpertPlacement placement = RandomShadows(9, ranks, 3, random);
    MemoryMeter memory;
    Stream stream(memory);
    ShadowSync sync(*world.communicator, placement, stream, memory);
    for (int round = 0; round < 10; ++round) {
      const int64_t columns = round == 9 ? (int64_t{1} << 20) + 3 : 1 + static_cast<int64_t>(random() % 50);
      const int places = placement.num_local(rank);
      const auto expert_of = [&](int place) {
        return placement.send_order()[placement.first_of(rank) + place];
      };
      const auto own = static_cast<int>(placement.experts_of(rank).size());
      std::vector<double> weights(places * columns, -1);
      for (int p = 0; p < own; ++p) {
        for (int64_t i = 0; i < columns; ++i) weights[p * columns + i] = Value(expert_of(p), i);
      }
      const std::vector<double> before = weights;
      const Tensor arrays[] = {Tensor(weights.data(), DType::kF64, {places, columns, 1})};
      sync.PlacementChanged();
      const int64_t sent = sync.bytes_sent();
      sync.StartWeights(arrays, 0);
      sync.WaitWeights();
      for (int p = 0; p < places; ++p) {
        for (int64_t i = 0; i < columns; ++i) {
          ASSERT_EQ(weights[p * columns + i], expert_of(p) < 0 ? -1 : Value(expert_of(p), i));
        }
      }
      int64_t copies = 0;
      for (int p = 0; p < own; ++p) copies += std::ssize(placement.places_of(expert_of(p))) - 1;
      EXPECT_EQ(sync.bytes_sent() - sent, copies * columns * 8);
      sync.StartWeights(arrays, 0);  // nothing has changed
      EXPECT_EQ(sync.bytes_sent() - sent, copies * columns * 8);

      // A copy's gradient is 1 / 8 to the power of its rank, so the sum says who is in it, exactly.
      for (int p = 0; p < places; ++p) {
        for (int64_t i = 0; i < columns; ++i)
          weights[p * columns + i] = std::ldexp(Value(std::max(0, expert_of(p)), i), -3 * rank);
      }
      const std::vector<double> shadows_and_own = weights;
      sync.StartGradients(arrays, 0);
      EXPECT_EQ(weights, shadows_and_own) << "they are added later";
      sync.FinishGradients();
      for (int p = 0; p < own; ++p) {
        double all = 0;
        for (const int place : placement.places_of(expert_of(p)))
          all += std::ldexp(1, -3 * placement.rank_of(place));
        for (int64_t i = 0; i < columns; ++i)
          ASSERT_EQ(weights[p * columns + i], all * Value(expert_of(p), i)) << "expert " << expert_of(p);
      }
      placement = RandomShadows(9, ranks, 3, random);
    }
    EXPECT_LE(memory.peak_bytes(MemoryKind::kExchange), ShadowSync::kStagingBytes + ranks * 64);
  });
}

// Small gradients are all on their way before any is waited for. Large ones are so in pieces, for which the
// memory is there.
TEST(ShadowSync, GradientsTravelBeforeTheyAreWaitedFor) {
  RunOnRanks([](World& world) {
    if (world.size() == 1) return;
    const int rank = world.rank(), ranks = world.size();
    // Rank 0 has 4 experts, and each other rank shadows of 2 of them.
    std::vector<std::vector<int>> shadows(ranks, {0, 2});
    shadows[0] = {-1, -1};
    std::vector<int> owner(4 + ranks - 1, 0);
    for (int other = 1; other < ranks; ++other) owner[3 + other] = other;
    const ExpertPlacement placement(owner, ranks, {.of_rank = shadows, .shares = {}});
    for (const int64_t columns : {int64_t{100}, (ShadowSync::kStagingBytes / 8) + 5}) {
      std::string journal;
      RecordingCommunicator pool(*world.communicator, journal);
      MemoryMeter memory;
      Stream stream(memory);
      ShadowSync sync(pool, placement, stream, memory);
      std::vector<double> values(placement.num_local(rank) * columns, 1 + rank);
      const Tensor arrays[] = {Tensor(values.data(), DType::kF64, {placement.num_local(rank), columns, 1})};
      sync.StartGradients(arrays, 7);
      const auto started = [&] { return std::count(journal.begin(), journal.end(), '\n'); };
      const int64_t at_once = started();
      EXPECT_EQ(memory.current_bytes(MemoryKind::kExchange) > 0, rank == 0);
      sync.FinishGradients();
      EXPECT_GE(at_once, 2) << "two rounds, or two pieces";
      EXPECT_EQ(at_once == started(), columns == 100);
      EXPECT_LE(memory.peak_bytes(MemoryKind::kExchange), ShadowSync::kStagingBytes + ranks * 64);
      if (rank > 0) continue;
      for (int expert = 0; expert < 4; ++expert) {
        const double expected = expert % 2 == 0 ? ranks * (ranks + 1) / 2 : 1;
        const double* begin = values.data() + expert * columns;
        EXPECT_EQ(std::count(begin, begin + columns, expected), columns) << "expert " << expert;
      }
    }
  });
}

}  // namespace
}  // namespace unipool
