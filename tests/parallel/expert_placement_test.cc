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

TEST(ExpertPlacementDeathTest, OwnerOutOfRange) {
  EXPECT_DEATH(ExpertPlacement({0, 3}, 3), "expert 1 has owner 3 of 3 ranks");
}

}  // namespace
}  // namespace unipool
