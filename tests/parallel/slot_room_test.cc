// Rows of the fullest slot, against a walk of the slots that counts each source's rows one by one.
#include "parallel/slot_room.h"

#include <gtest/gtest.h>

#include <random>

namespace unipool {
namespace {

// 2 ranks, 2 stages of a layer each, 3 microbatches. In the middle of the step both stages work, so a slot
// has a third of both layers' rows.
TEST(SlotRoom, OfTwoStages) {
  const SlotSchedule schedule({1, 1}, 3);
  const std::vector<double> counts{30, 0,    // layer 0: expert 0 only
                                   12, 18};  // layer 1
  const MeshShape shape{.stages = 2};
  const ExpertPlacement blocks = ContiguousPlacement(2, 2);
  const SlotRoom first = RoomInSlots({.counts = counts, .schedule = schedule}, blocks, shape, 0, 0);
  EXPECT_DOUBLE_EQ(first.forward, 10 + 4);
  EXPECT_DOUBLE_EQ(first.backward, 10 + 4);
  const SlotRoom second = RoomInSlots({.counts = counts, .schedule = schedule}, blocks, shape, 1, 1);
  EXPECT_DOUBLE_EQ(second.forward, 6);
  EXPECT_DOUBLE_EQ(second.backward, 6);
}

TEST(SlotRoom, OfSharesIsTheirPart) {
  const SlotSchedule schedule({1}, 4);
  const std::vector<double> counts{80, 40};
  // Rank 1 has a copy of expert 0, which gets a quarter of its rows.
  const ExpertPlacement placement({0, 1}, 2, {.of_rank = {{-1}, {0}}, .shares = {192, 0, 256, 64}});
  const ShadowCounts all{.counts = counts, .schedule = schedule};
  EXPECT_DOUBLE_EQ(RoomInSlots(all, placement, {.data = 2}, 0, 0).forward, 15);
  EXPECT_DOUBLE_EQ(RoomInSlots(all, placement, {.data = 2}, 0, 1).forward, 15);
  EXPECT_DOUBLE_EQ(RoomInSlots(all, placement, {.replicas = 2, .data = 2}, 0, 1).backward, 7.5);
}

// A pool of a stage gets that stage's rows alone.
TEST(SlotRoom, OfAStageIsItsOwn) {
  const SlotSchedule schedule({2, 1}, 2);
  const std::vector<double> counts{2, 6, 8, 4, 20, 10};
  const MeshShape shape{.stages = 2, .data = 2, .span = PoolSpan::kStage};
  const ExpertPlacement blocks = ContiguousPlacement(2, 2);
  const ShadowCounts all{.counts = counts, .schedule = schedule};
  EXPECT_DOUBLE_EQ(RoomInSlots(all, blocks, shape, 0, 0).forward, 4);
  EXPECT_DOUBLE_EQ(RoomInSlots(all, blocks, shape, 0, 1).forward, 3);
  EXPECT_DOUBLE_EQ(RoomInSlots(all, blocks, shape, 1, 0).backward, 10);
}

TEST(SlotRoom, IsTheMostOfAnySlot) {
  std::mt19937_64 random(5);
  for (int stages = 1; stages <= 3; ++stages) {
    for (int microbatches = 1; microbatches <= 6; ++microbatches) {
      std::vector<int> layers;
      for (int s = 0; s < stages; ++s) layers.push_back(1 + static_cast<int>(random() % 2));
      const SlotSchedule schedule(layers, microbatches);
      const int num_layers = schedule.FirstLayer(stages - 1) + layers.back(), experts = 5, ranks = 2 * stages;
      std::vector<double> counts(num_layers * experts);
      for (double& count : counts) count = static_cast<double>(random() % 100);
      const ExpertPlacement blocks = ContiguousPlacement(experts, ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        double most[2] = {};
        for (int time = 0; time < schedule.num_times(); ++time) {
          for (int index = 0; index < schedule.slots_per_time(); ++index) {
            for (const Lane lane : {Lane::kForward, Lane::kBackward}) {
              double rows = 0;
              for (int s = 0; s < stages; ++s) {
                const LaneWork work = schedule.Work(lane, s, {.time = time, .index = index});
                for (const int expert : blocks.experts_of(rank)) {
                  if (!work.idle())
                    rows += counts[(schedule.FirstLayer(s) + work.layer) * experts + expert] / microbatches;
                }
              }
              most[static_cast<int>(lane)] = std::max(most[static_cast<int>(lane)], rows);
            }
          }
        }
        const SlotRoom room = RoomInSlots({.counts = counts, .schedule = schedule}, blocks,
                                          {.stages = stages, .data = 2}, 0, rank);
        EXPECT_NEAR(room.forward, most[0], 1e-9);
        EXPECT_NEAR(room.backward, most[1], 1e-9);
      }
    }
  }
}

}  // namespace
}  // namespace unipool
