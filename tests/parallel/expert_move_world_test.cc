// Rows tell expert, array and column, so a row at a wrong place or with a wrong piece shows.
#include "parallel/expert_move.h"
#include "parallel/slot_placement.h"
#include "tests/parallel/shared_seed.h"
#include "tests/parallel/shuffled_placement.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

struct Array {
  std::vector<double> values;
  int64_t rows, outer, inner;
  Tensor tensor() { return Tensor(values.data(), DType::kF64, {rows, outer, inner}); }
};

double Value(int array, int expert, int64_t column) {
  return array * 1e9 + expert * 1e6 + static_cast<double>(column);
}

void Fill(Array& array, int number, const std::vector<int>& experts) {
  for (int64_t i = 0; i < static_cast<int64_t>(array.values.size()); ++i) {
    const int64_t columns = array.outer * array.inner;
    array.values[i] = Value(number, experts[i / columns], i % columns);
  }
}

TEST(ExpertMove, EveryRowComesToItsNewOwner) {
  RunOnRanks([](World& world) {
    const uint64_t seed = SharedSeed(world);
    SCOPED_TRACE(SeedText(seed));
    std::mt19937_64 random(seed);
    const int rank = world.rank();
    for (int round = 0; round < 30; ++round) {
      const int experts = 1 + random() % 19;
      const ExpertPlacement from = Shuffled(ContiguousPlacement(experts, world.size()), random);
      const ExpertPlacement to = Shuffled(from, random);
      const auto rows = static_cast<int64_t>(from.experts_of(rank).size());
      const int64_t shapes[][2] = {{3, 7}, {1, 1}, {11, 5}};
      std::vector<Array> arrays, expected;
      std::vector<Tensor> tensors;
      int64_t row_bytes = 0;
      for (const auto& [outer, inner] : shapes) {
        arrays.push_back({std::vector<double>(rows * outer * inner, -1), rows, outer, inner});
        Fill(arrays.back(), static_cast<int>(arrays.size()), from.experts_of(rank));
        expected.push_back(arrays.back());
        Fill(expected.back(), static_cast<int>(expected.size()), to.experts_of(rank));
        row_bytes += outer * inner * 8;
      }
      for (Array& array : arrays) tensors.push_back(array.tensor());
      // Staging for everything at once, for pieces of some columns, and for the least.
      const int64_t staging = std::vector<int64_t>{1 << 20, 1000, 1}[round % 3];
      MemoryMeter memory;
      Stream stream(memory);
      const int64_t sent = MoveExperts(*world.communicator, from, to, tensors, 0, stream, memory, staging);
      for (size_t i = 0; i < arrays.size(); ++i) EXPECT_EQ(arrays[i].values, expected[i].values);
      int64_t leaving = 0;
      for (const int expert : from.experts_of(rank)) leaving += to.owner(expert) != rank;
      EXPECT_EQ(sent, leaving * row_bytes);
      EXPECT_EQ(memory.current_bytes(MemoryKind::kExchange), 0);
      EXPECT_LE(memory.peak_bytes(MemoryKind::kExchange), std::max<int64_t>(staging, 64 * rows));
    }
  });
}

}  // namespace
}  // namespace unipool
