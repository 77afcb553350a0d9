#include "parallel/shadow_placement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "parallel/slot_placement.h"
#include "tests/fresh_seed.h"
#include "tests/parallel/shuffled_placement.h"

namespace unipool {
namespace {

std::mt19937_64& Random() {
  static std::mt19937_64 random;
  return random;
}

class PlaceShadowsTest : public ::testing::Test {
 protected:
  void SetUp() override { Random().seed(FreshSeed()); }
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, SeedText()};
};

std::vector<double> SkewedCounts(int layers, int experts, double sigma) {
  std::normal_distribution<double> normal(0, sigma);
  std::vector<double> counts;
  for (int i = 0; i < layers * experts; ++i) counts.push_back(std::round(1000 * std::exp(normal(Random()))));
  return counts;
}

void ExpectSound(const ExpertPlacement& placed, const ExpertPlacement& owners, int layers, int room) {
  ASSERT_EQ(NumMoved(placed, owners), 0);
  ASSERT_EQ(placed.num_shadows(), room);
  for (int l = 0; l < layers; ++l) {
    for (int e = 0; e < placed.num_experts(); ++e) {
      int units = 0;
      for (const int place : placed.places_of(e)) {
        EXPECT_GE(placed.shares(l)[place], 0);
        units += placed.shares(l)[place];
      }
      EXPECT_EQ(units, kShareUnits);
    }
    for (int place = 0; place < placed.num_places(); ++place) {
      EXPECT_TRUE(placed.send_order()[place] >= 0 || placed.shares(l)[place] == 0) << "place " << place;
    }
  }
}

TEST_F(PlaceShadowsTest, SumsOfLoadsStay) {
  for (int round = 0; round < 60; ++round) {
    const int stages = 1 + Random()() % 3, n = 1 + Random()() % 3, experts = 2 + Random()() % 9;
    const int ranks = 1 + Random()() % 4, room = Random()() % 4;
    const SlotSchedule schedule(std::vector<int>(stages, n), 1 + Random()() % 6);
    const std::vector<double> values = SkewedCounts(stages * n, experts, 1.5);
    const PoolSpan span = round % 2 ? PoolSpan::kReplica : PoolSpan::kStage;
    const ShadowCounts counts{.counts = values, .schedule = schedule, .span = span};
    const ExpertPlacement owners = Shuffled(ContiguousPlacement(experts, ranks), Random());
    const ExpertPlacement placed = PlaceShadows(counts, owners, room);
    ExpectSound(placed, owners, stages * n, room);
    EXPECT_TRUE(placed == PlaceShadows(counts, owners, room)) << "twice the same";
    double sum = 0, expected = 0;
    for (const double load : RankLoads(counts, placed)) sum += load;
    for (const double load : SlotLoadsOf(values, experts, schedule, span).loads) expected += load;
    EXPECT_NEAR(sum, expected, 1e-9 * expected);
    // Rounding of shares costs less than a unit in each layer.
    EXPECT_LE(SlotImbalance(counts, placed), SlotImbalance(counts, owners) * 1.01);
  }
}

// The least imbalance of all choices of shadows and of shares, these in steps of 1 / 16 with one layer and
// of 1 / 4 with two.
class AllWays {
 public:
  AllWays(const ShadowCounts& counts, const ExpertPlacement& owners, int layers)
      : counts_(counts), owners_(owners), layers_(layers) {}
  double Best() {
    shadows_.assign(2, {-1});
    for (shadows_[0][0] = -1; shadows_[0][0] < owners_.num_experts(); ++shadows_[0][0]) {
      for (shadows_[1][0] = -1; shadows_[1][0] < owners_.num_experts(); ++shadows_[1][0]) {
        if (IsOwn(0) || IsOwn(1)) continue;
        const ExpertPlacement placed = Placed({});
        shares_.assign(static_cast<size_t>(layers_) * placed.num_places(), 0);
        Share(placed, 0);
      }
    }
    return best_;
  }

 private:
  bool IsOwn(int rank) const { return shadows_[rank][0] >= 0 && owners_.owner(shadows_[rank][0]) == rank; }
  ExpertPlacement Placed(std::vector<int32_t> shares) const {
    std::vector<int> owner;
    for (int e = 0; e < owners_.num_experts(); ++e) owner.push_back(owners_.owner(e));
    return ExpertPlacement(owner, 2, {.of_rank = shadows_, .shares = std::move(shares)});
  }
  void Share(const ExpertPlacement& placed, int next) {
    if (next == layers_ * placed.num_experts()) {
      best_ = std::min(best_, SlotImbalance(counts_, Placed(shares_)));
      return;
    }
    const std::vector<int> places = placed.places_of(next % placed.num_experts());
    int32_t* shares = shares_.data() + static_cast<size_t>(next / placed.num_experts()) * placed.num_places();
    const int steps = layers_ == 1 ? 16 : 4;
    for (int step = 0; step <= (places.size() == 1 ? 0 : steps); ++step) {
      if (places.size() > 1) shares[places[1]] = step * kShareUnits / steps;
      shares[places[0]] = kShareUnits - step * kShareUnits / steps;
      Share(placed, next + 1);
    }
  }
  const ShadowCounts& counts_;
  const ExpertPlacement& owners_;
  const int layers_;
  std::vector<std::vector<int>> shadows_;
  std::vector<int32_t> shares_;
  double best_ = std::numeric_limits<double>::infinity();
};

TEST_F(PlaceShadowsTest, IsCloseToTheBestOfAllWays) {
  double sum = 0, worst = 0;
  constexpr int kRounds = 24;
  for (int round = 0; round < kRounds; ++round) {
    const int layers = 1 + round % 2, experts = 4;
    const SlotSchedule schedule(round % 4 < 2 ? std::vector<int>{layers} : std::vector<int>(layers, 1), 3);
    const std::vector<double> values = SkewedCounts(layers, experts, 1.2);
    const ShadowCounts counts{.counts = values, .schedule = schedule};
    const ExpertPlacement owners = ContiguousPlacement(experts, 2);
    const double found = SlotImbalance(counts, PlaceShadows(counts, owners, 1, /*tolerance=*/0));
    const double best = AllWays(counts, owners, layers).Best();
    sum += found / best / kRounds;
    worst = std::max(worst, found / best);
  }
  EXPECT_LT(sum, 1.02);
  EXPECT_LT(worst, 1.2);
}

TEST_F(PlaceShadowsTest, OneHotExpertIsTheWorkOfAllRanks) {
  const SlotSchedule schedule({1}, 1);
  const std::vector<double> values{1000, 0, 0, 0};
  const ShadowCounts counts{.counts = values, .schedule = schedule};
  const ExpertPlacement placed = PlaceShadows(counts, ContiguousPlacement(4, 4), 1);
  EXPECT_EQ(placed.places_of(0).size(), 4u);
  EXPECT_NEAR(SlotImbalance(counts, placed), 1, 0.02);
  EXPECT_EQ(SlotImbalance(counts, ContiguousPlacement(4, 4)), 4);
}

TEST_F(PlaceShadowsTest, CopiesThatCostMoreThanTheyGiveAreNotMade) {
  const SlotSchedule schedule({1}, 1);
  const std::vector<double> values{12, 4, 4, 4};
  const ExpertPlacement owners = ContiguousPlacement(4, 4);
  // The counts are those of one slot of 24 rows, or the mean of slots of 24,000.
  EXPECT_EQ(NumShadows(PlaceShadows(
                {.counts = values, .schedule = schedule, .copy_share = CopyShare(24, false)}, owners, 1)),
            0);
  const ExpertPlacement large =
      PlaceShadows({.counts = values, .schedule = schedule, .copy_share = CopyShare(24e3, false)}, owners, 1);
  EXPECT_EQ(NumShadows(large), 3);
  EXPECT_NEAR(SlotImbalance({.counts = values, .schedule = schedule}, large), 1, 0.02);
  // In between: 72 rows, 36 of them of one expert. Copies of 6 rows on the other ranks: 18, 12 + 6 + 8.
  const ExpertPlacement small =
      PlaceShadows({.counts = values, .schedule = schedule, .copy_share = CopyShare(72, false)}, owners, 1);
  EXPECT_LT(SlotImbalance({.counts = values, .schedule = schedule}, small), 12. / 6 - 8. / 18);
}

TEST_F(PlaceShadowsTest, LevelLoadsGetNone) {
  const SlotSchedule schedule({2, 2}, 4);
  const std::vector<double> values(4 * 12, 5.0);
  const ExpertPlacement owners = ContiguousPlacement(12, 3);
  const ExpertPlacement placed = PlaceShadows({.counts = values, .schedule = schedule}, owners, 2);
  for (int e = 0; e < 12; ++e) EXPECT_EQ(placed.places_of(e).size(), 1u);
}

// Log-normal 1.5, S = 4, B = 8, 8 ranks with 4 experts and 4 shadows each.
TEST_F(PlaceShadowsTest, IsMoreLevelThanAnyPlacementOfWholeExperts) {
  double without = 0, with = 0, least = 0;
  constexpr int kRounds = 6;
  for (int round = 0; round < kRounds; ++round) {
    const SlotSchedule schedule({2, 2, 2, 2}, 8);
    const std::vector<double> values = SkewedCounts(8, 32, 1.5);
    const ShadowCounts counts{.counts = values, .schedule = schedule};
    const SlotLoads loads = SlotLoadsOf(values, 32, schedule, PoolSpan::kReplica);
    const ExpertPlacement owners = PlaceBySlots(loads, ContiguousPlacement(32, 8));
    without += SlotImbalance(counts, owners) / kRounds;
    with += SlotImbalance(counts, PlaceShadows(counts, owners, 4)) / kRounds;
    least += LeastSlotImbalance(loads, 8) / kRounds;
  }
  EXPECT_LT(with, 1.04);
  EXPECT_GT(without, 1.15);
  EXPECT_LT(with, least) << "below what whole experts can reach";
}

TEST_F(PlaceShadowsTest, SourcesSendToTheirOwnCopyFirst) {
  for (int round = 0; round < 100; ++round) {
    const int ranks = 2 + Random()() % 3, experts = 6, sources = 1 + Random()() % ranks;
    const SlotSchedule schedule({1}, 1);
    const std::vector<double> values = SkewedCounts(1, experts, 1.5);
    const ExpertPlacement owners = ContiguousPlacement(experts, ranks);
    const ExpertPlacement placed = PlaceShadows({.counts = values, .schedule = schedule}, owners, 2);
    std::vector<int> list;
    for (int s = 0; s < sources; ++s) list.push_back(s);
    std::vector<double> total(placed.num_places());
    for (const int source : list) {
      const std::vector<int32_t> units = SharesOfSource(placed, placed.shares(0), list, source);
      for (int e = 0; e < experts; ++e) {
        int sum = 0;
        for (const int place : placed.places_of(e)) {
          ASSERT_GE(units[place], 0);
          sum += units[place];
          total[place] += units[place];
          const bool is_own = placed.rank_of(place) == source;
          EXPECT_GE(units[place], is_own ? std::min(kShareUnits, sources * placed.shares(0)[place]) : 0);
        }
        EXPECT_EQ(sum, kShareUnits);
      }
    }
    for (int place = 0; place < placed.num_places(); ++place)
      EXPECT_NEAR(total[place], sources * placed.shares(0)[place], sources);
  }
}

}  // namespace
}  // namespace unipool
