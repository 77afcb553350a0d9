// Experts at the stage of their layer: who gets them, and that no rank's number changes.
#include "models/lock/owner_placement.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

std::vector<size_t> Sizes(const ExpertPlacement& placement) {
  std::vector<size_t> sizes;
  for (int rank = 0; rank < placement.num_ranks(); ++rank) sizes.push_back(placement.experts_of(rank).size());
  return sizes;
}

TEST(OwnerPlacement, EvenStagesKeepTheirLayersExperts) {
  const std::vector<int32_t> owners{3, 0, 1, 2, 2, 1, 0, 3};
  const SlotSchedule schedule({2, 2}, 2);
  const MeshShape shape{.stages = 2, .data = 2};
  const ExpertPlacement placement = PlaceAtOwnerStage(owners, schedule, shape, ContiguousPlacement(8, 4));
  for (int expert = 0; expert < 8; ++expert) {
    EXPECT_EQ(placement.owner(expert) / 2, owners[expert] / 2) << "expert " << expert;
  }
  // A layer's two experts are on different ranks of its stage.
  EXPECT_NE(placement.owner(1), placement.owner(6));
  EXPECT_NE(placement.owner(0), placement.owner(7));
  EXPECT_EQ(Sizes(placement), (std::vector<size_t>{2, 2, 2, 2}));
}

TEST(OwnerPlacement, UnevenStagesGiveWhatHasNoRoom) {
  const std::vector<int32_t> owners{0, 0, 1, 1, 2, 2};
  const ExpertPlacement placement =
      PlaceAtOwnerStage(owners, SlotSchedule({2, 1}, 2), {.stages = 2, .data = 1}, ContiguousPlacement(6, 2));
  EXPECT_EQ(Sizes(placement), (std::vector<size_t>{3, 3}));
  EXPECT_EQ(placement.owner(4), 1);
  EXPECT_EQ(placement.owner(5), 1);
  EXPECT_EQ(placement.owner(0), 0);
}

TEST(OwnerPlacement, PoolsPerStageStay) {
  const std::vector<int32_t> owners{1, 0};
  const MeshShape shape{.stages = 2, .data = 2, .span = PoolSpan::kStage};
  const ExpertPlacement current = ContiguousPlacement(2, 2);
  const ExpertPlacement placement = PlaceAtOwnerStage(owners, SlotSchedule({1, 1}, 2), shape, current);
  EXPECT_EQ(placement.owner(0), current.owner(0));
  EXPECT_EQ(placement.owner(1), current.owner(1));
}

TEST(OwnerPlacement, CountsAreOfOwners) {
  EXPECT_EQ(EvenCountsOfOwners(std::vector<int32_t>{1, 0, 1}, 2), (std::vector<double>{0, 1, 0, 1, 0, 1}));
}

}  // namespace
}  // namespace unipool
