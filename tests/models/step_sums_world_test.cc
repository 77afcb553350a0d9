// Every number of a step's sums says which rank and which place it comes from.
#include <cmath>
#include <limits>

#include "models/step_sums.h"
#include "runtime/buffer.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

TEST(StepSums, AddsEveryNumberOverTheRanks) {
  RunOnRanks([](World& world) {
    ModelSpec spec;
    spec.layers = 2;
    spec.experts = 3;
    StepSums sums(spec, world.size(), 5, true);
    for (const int64_t step : {0, 1}) {
      sums.Clear();
      const double own = 1 + world.rank();
      sums.loss = 100 * own;
      sums.pool_loss = 200 * own;
      sums.pool_loss_at_balance = 300 * own;
      sums.zero_tokens = 400 * own;
      for (size_t i = 0; i < sums.counts.size(); ++i) sums.counts[i] = static_cast<double>(1000 + i) * own;
      for (size_t i = 0; i < sums.ties.size(); ++i) sums.ties[i] = static_cast<double>(5000 + i) * own;
      for (size_t i = 0; i < sums.scores.size(); ++i) sums.scores[i] = static_cast<double>(1500 + i) * own;
      for (size_t i = 0; i < sums.importance.size(); ++i)
        sums.importance[i] = static_cast<double>(6000 + i) * own;
      for (size_t i = 0; i < sums.grad_squares.size(); ++i) {
        sums.grad_squares[i] = static_cast<double>(2000 + i) * own;
      }
      for (int i = 0; i < StepSums::kMostRiders; ++i) sums.riders[i] = (3000 + i) * own;
      for (int i = 0; i < 5; ++i) sums.traffic[i] = (4000 + i) * own;
      for (double& bytes : sums.memory_of(world.rank())) bytes = own;
      sums.SetRowsOf(world.rank(), {.stashed = 7000 + world.rank(), .banked = 8000 + world.rank()});
      sums.Reduce(*world.communicator, step);

      const double all = 0.5 * world.size() * (world.size() + 1);  // 1 + 2 + ... + ranks
      EXPECT_EQ(sums.loss, 100 * all);
      EXPECT_EQ(sums.pool_loss, 200 * all);
      EXPECT_EQ(sums.pool_loss_at_balance, 300 * all);
      EXPECT_EQ(sums.zero_tokens, 400 * all);
      ASSERT_EQ(sums.counts.size(), 6u);
      ASSERT_EQ(sums.ties.size(), 6u);
      ASSERT_EQ(sums.scores.size(), 6u);
      ASSERT_EQ(sums.grad_squares.size(), 4u);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(sums.counts[i], (1000 + i) * all);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(sums.ties[i], (5000 + i) * all);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(sums.scores[i], (1500 + i) * all);
      ASSERT_EQ(sums.importance.size(), 6u);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(sums.importance[i], (6000 + i) * all);
      for (int i = 0; i < 4; ++i) EXPECT_EQ(sums.grad_squares[i], (2000 + i) * all);
      for (int i = 0; i < StepSums::kMostRiders; ++i) EXPECT_EQ(sums.riders[i], (3000 + i) * all);
      for (int i = 0; i < 5; ++i) EXPECT_EQ(sums.traffic[i], (4000 + i) * all);
      for (int rank = 0; rank < world.size(); ++rank) {
        ASSERT_EQ(sums.memory_of(rank).size(), static_cast<size_t>(kNumMemoryKinds));
        for (const double bytes : sums.memory_of(rank)) EXPECT_EQ(bytes, 1 + rank);
        EXPECT_EQ(sums.RowsOf(rank), (HeldRows{.stashed = 7000 + rank, .banked = 8000 + rank}));
      }
    }
  });
}

// A number that is none on one rank is none on all.
TEST(StepSums, AreFiniteWhereLossAndSquaresAre) {
  RunOnRanks([](World& world) {
    ModelSpec spec;
    spec.layers = 2;
    spec.experts = 3;
    StepSums sums(spec, world.size());
    for (const double value : {1e300, std::numeric_limits<double>::infinity(), std::nan("")}) {
      for (double* number : {&sums.loss, &sums.grad_squares[0], &sums.grad_squares[3], &sums.pool_loss}) {
        sums.Clear();
        if (world.rank() == world.size() - 1) *number = value;
        sums.Reduce(*world.communicator, 0);
        EXPECT_EQ(sums.AreFinite(), value == 1e300 || number == &sums.pool_loss);
      }
    }
  });
}

}  // namespace
}  // namespace unipool
