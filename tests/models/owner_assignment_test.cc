// Owners of experts against all assignments, and what is found where none covers enough.
#include "models/lock/owner_assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

struct Best {
  bool covers = false;
  int64_t rank_sum = 0;
  double most_covered = 0;  // sum of shares
};

// By the authors' programme: every layer's covered share at least `coverage` of max(1, its choices).
Best BestOfAll(const std::vector<int64_t>& counts, int layers, int experts, double coverage) {
  std::vector<int> owner(experts);
  for (int i = 0; i < experts; ++i) owner[i] = i * layers / experts;
  Best best;
  do {
    int64_t ranks = 0;
    double covered = 0;
    bool covers = true;
    for (int l = 0; l < layers; ++l) {
      const auto* row = counts.data() + int64_t{l} * experts;
      const int64_t total = std::accumulate(row, row + experts, int64_t{0});
      int64_t own = 0;
      for (int i = 0; i < experts; ++i) {
        if (owner[i] != l) continue;
        own += row[i];
        for (int j = 0; j < experts; ++j) ranks += row[j] > row[i] || (row[j] == row[i] && j < i);
      }
      covers &= static_cast<double>(own) >= coverage * static_cast<double>(total) - 1e-9;
      covered += static_cast<double>(own) / static_cast<double>(std::max<int64_t>(1, total));
    }
    best.most_covered = std::max(best.most_covered, covered);
    if (!covers || (best.covers && ranks >= best.rank_sum)) continue;
    best.covers = true;
    best.rank_sum = ranks;
  } while (std::next_permutation(owner.begin(), owner.end()));
  return best;
}

// Counts of layers that like some experts much more than others, and share some of these.
std::vector<int64_t> Counts(std::mt19937_64& random, int layers, int experts, int sharpness) {
  std::vector<int64_t> counts(layers * experts);
  for (int64_t& count : counts) {
    const double u = std::uniform_real_distribution<double>(0, 1)(random);
    count = 1 + static_cast<int64_t>(std::pow(u, sharpness) * 1000);
  }
  return counts;
}

TEST(OwnerAssignment, IsTheOptimumOfAllAssignments) {
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(SeedText());
  std::mt19937_64 random(seed);
  int num_covered = 0, num_not = 0;
  for (int trial = 0; trial < 150; ++trial) {
    const int layers = 2 + static_cast<int>(random() % 2), each = 1 + static_cast<int>(random() % 3);
    const int experts = layers * each;
    const double coverage = 0.3 + 0.05 * static_cast<double>(random() % 12);
    const std::vector<int64_t> counts = Counts(random, layers, experts, 1 + trial % 6);
    const Best best = BestOfAll(counts, layers, experts, coverage);
    const OwnerAssignment found =
        AssignOwners(counts, {.layers = layers, .experts = experts, .coverage = coverage});
    std::vector<int> sizes(layers);
    for (const int layer : found.owner) ++sizes[layer];
    for (const int size : sizes) ASSERT_EQ(size, each);
    if (best.covers) {
      ++num_covered;
      ASSERT_EQ(found.rule, AssignmentRule::kCovered);
      ASSERT_EQ(found.rank_sum, best.rank_sum);
      for (const double share : found.coverage) ASSERT_GE(share, coverage - 1e-6);
    } else {
      ++num_not;
      ASSERT_EQ(found.rule, AssignmentRule::kMostCovered);
      ASSERT_NEAR(std::accumulate(found.coverage.begin(), found.coverage.end(), 0.0), best.most_covered,
                  1e-9);
    }
  }
  EXPECT_GT(num_covered, 20);
  EXPECT_GT(num_not, 20);
}

// Each layer uses a block of experts of its own, in an order that is hidden.
TEST(OwnerAssignment, FindsPlantedBlocks) {
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(SeedText());
  std::mt19937_64 random(seed);
  constexpr int kLayers = 12, kExperts = 96;
  std::vector<int> planted(kExperts);
  for (int i = 0; i < kExperts; ++i) planted[i] = i % kLayers;
  std::shuffle(planted.begin(), planted.end(), random);
  std::vector<int64_t> counts(kLayers * kExperts);
  for (int l = 0; l < kLayers; ++l) {
    for (int i = 0; i < kExperts; ++i)
      counts[l * kExperts + i] =
          planted[i] == l ? 1000 + static_cast<int64_t>(random() % 1000) : static_cast<int64_t>(random() % 5);
  }
  const OwnerAssignment found = AssignOwners(counts, {.layers = kLayers, .experts = kExperts});
  EXPECT_EQ(found.owner, planted);
  EXPECT_EQ(found.rule, AssignmentRule::kCovered);
}

TEST(OwnerAssignment, WithoutEnoughCoverageItCoversMost) {
  // Both layers want experts 0 and 1 alone.
  const std::vector<int64_t> counts{60, 40, 0, 0, 90, 10, 0, 0};
  const OwnerAssignment found = AssignOwners(counts, {.layers = 2, .experts = 4});
  EXPECT_EQ(found.rule, AssignmentRule::kMostCovered);
  EXPECT_EQ(found.owner[0], 1);
  EXPECT_EQ(found.owner[1], 0);
  EXPECT_NEAR(found.coverage[0], 0.4, 1e-12);
  EXPECT_NEAR(found.coverage[1], 0.9, 1e-12);
}

// The pair of ranks that coverage forbids: without the demand expert 0 goes to layer 0.
TEST(OwnerAssignment, CoverageComesBeforeRanks) {
  const std::vector<int64_t> counts{30, 36, 34, 0, 97, 2, 1, 0};
  EXPECT_EQ(AssignOwners(counts, {.layers = 2, .experts = 4, .coverage = 0.6}).owner[0], 1);
}

// The sizes of the published runs end in time, with every layer's experts.
TEST(OwnerAssignment, LargePoolsEnd) {
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(SeedText());
  std::mt19937_64 random(seed);
  for (const int sharpness : {1, 8, 40}) {
    const std::vector<int64_t> counts = Counts(random, 24, 192, sharpness);
    const AssignmentOptions options{.layers = 24, .experts = 192, .most_work = 10'000'000};
    const OwnerAssignment found = AssignOwners(counts, options);
    EXPECT_EQ(found.owner, AssignOwners(counts, options).owner) << "every time the same";
    std::vector<int> sizes(24);
    for (const int layer : found.owner) ++sizes[layer];
    EXPECT_EQ(sizes, std::vector<int>(24, 8));
  }
}

TEST(OwnerAssignment, DrawnOwnersAreOfTheSeed) {
  const AssignmentOptions options{.layers = 4, .experts = 32};
  const OwnerAssignment one = DrawOwners(1, {}, options);
  EXPECT_EQ(one.owner, DrawOwners(1, {}, options).owner);
  EXPECT_NE(one.owner, DrawOwners(2, {}, options).owner);
  std::vector<int> sizes(4);
  for (const int layer : one.owner) ++sizes[layer];
  EXPECT_EQ(sizes, std::vector<int>(4, 8));
  EXPECT_EQ(one.rule, AssignmentRule::kRandom);
}

}  // namespace
}  // namespace unipool
