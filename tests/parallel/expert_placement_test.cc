#include "parallel/expert_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ContiguousPlacement, LargerBlocksComeFirst) {
  const ExpertPlacement placement = ContiguousPlacement(7, 3);
  EXPECT_THAT(placement.experts_of(0), ElementsAre(0, 1, 2));
  EXPECT_THAT(placement.experts_of(1), ElementsAre(3, 4));
  EXPECT_THAT(placement.experts_of(2), ElementsAre(5, 6));
}

TEST(ContiguousPlacement, MoreRanksThanExperts) {
  const ExpertPlacement placement = ContiguousPlacement(2, 4);
  EXPECT_THAT(placement.experts_of(0), ElementsAre(0));
  EXPECT_THAT(placement.experts_of(1), ElementsAre(1));
  EXPECT_THAT(placement.experts_of(2), IsEmpty());
  EXPECT_THAT(placement.experts_of(3), IsEmpty());
  EXPECT_EQ(placement.first_of(3), 2);
  EXPECT_EQ(placement.first_of(4), 2);
}

TEST(ExpertPlacement, SendOrderIsByOwnerThenExpert) {
  const ExpertPlacement placement({2, 0, 2, 1, 0}, 3);
  EXPECT_THAT(placement.send_order(), ElementsAre(1, 4, 3, 0, 2));
  EXPECT_THAT(placement.experts_of(2), ElementsAre(0, 2));
  EXPECT_EQ(placement.local_index(2), 1);
}

TEST(ExpertPlacement, AllViewsAgreeForRandomOwners) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  for (int round = 0; round < 200; ++round) {
    const int num_ranks = 1 + random() % 9;
    std::vector<int> owner(1 + random() % 40);
    for (int& rank : owner) rank = random() % num_ranks;
    const ExpertPlacement placement(owner, num_ranks);
    ASSERT_EQ(placement.num_ranks(), num_ranks);
    for (int expert = 0; expert < placement.num_experts(); ++expert) {
      EXPECT_EQ(placement.owner(expert), owner[expert]);
      EXPECT_EQ(placement.send_order()[placement.send_index(expert)], expert);
      EXPECT_EQ(placement.experts_of(owner[expert])[placement.local_index(expert)], expert);
    }
    for (int rank = 0; rank < num_ranks; ++rank) {
      EXPECT_EQ(placement.first_of(rank + 1) - placement.first_of(rank),
                static_cast<int>(placement.experts_of(rank).size()));
    }
  }
}

// The example of expert_placement.h, and a rank with two shadows.
TEST(ExpertPlacement, PlacesOfShadows) {
  const ExpertPlacement example({0, 1}, 2, {.of_rank = {{-1}, {0}}, .shares = {}});
  EXPECT_THAT(example.send_order(), ElementsAre(0, -1, 1, 0));
  EXPECT_THAT(example.places_of(0), ElementsAre(0, 3));
  EXPECT_THAT(example.places_of(1), ElementsAre(2));
  EXPECT_THAT(example.shadows_of(0), ElementsAre(-1));
  EXPECT_EQ(example.rank_of(1), 0);
  EXPECT_EQ(example.rank_of(2), 1);
  EXPECT_FALSE(example.has_shares());

  const ExpertPlacement placement({0, 0, 1, 1, 1}, 2,
                                  {.of_rank = {{4, 2}, {0, -1}}, .shares = std::vector<int32_t>(2 * 9, 7)});
  EXPECT_THAT(placement.send_order(), ElementsAre(0, 1, 4, 2, 2, 3, 4, 0, -1));
  EXPECT_EQ(placement.num_places(), 9);
  EXPECT_EQ(placement.num_local(0), 4);
  EXPECT_EQ(placement.num_local(1), 5);
  EXPECT_EQ(placement.first_of(2), 9);
  EXPECT_THAT(placement.places_of(4), ElementsAre(6, 2));
  EXPECT_EQ(placement.send_index(4), 6);
  EXPECT_EQ(placement.shares(1).size(), 9u);
  const ExpertPlacement empty = placement.WithRoom(1);
  EXPECT_THAT(empty.send_order(), ElementsAre(0, 1, -1, 2, 3, 4, -1));
  EXPECT_FALSE(empty == placement);
  EXPECT_TRUE(empty.WithRoom(0) == ExpertPlacement({0, 0, 1, 1, 1}, 2));
}

TEST(ExpertPlacementDeathTest, AnExpertTwiceOnARank) {
  EXPECT_DEATH(ExpertPlacement({0, 1}, 2, {.of_rank = {{0}, {-1}}, .shares = {}}),
               "expert 0 is twice on rank 0");
}

TEST(ExpertPlacementDeathTest, OwnerOutOfRange) {
  EXPECT_DEATH(ExpertPlacement({0, 3}, 3), "expert 1 has owner 3 of 3 ranks");
}

}  // namespace
}  // namespace unipool
