#include "models/slot_choice.h"

#include <gtest/gtest.h>

#include "models/memory_plan.h"
#include "tests/models/training_run.h"

namespace unipool {
namespace {

// Planned bytes are 100, 80 and 60 with 12, 8 and 4 slots.
SlotNeed Need(const std::string& device, int64_t device_bytes) {
  return {.device = device, .device_bytes = device_bytes, .rank_bytes = {100, 80, 60}};
}

TEST(SlotChoice, TheMostThatLeaveATenthFree) {
  EXPECT_EQ(SlotsThatFit({Need("a", 112)}), 12);
  EXPECT_EQ(SlotsThatFit({Need("a", 111)}), 8);
  EXPECT_EQ(SlotsThatFit({Need("a", 89)}), 8);
  EXPECT_EQ(SlotsThatFit({Need("a", 88)}), 4);
  EXPECT_EQ(SlotsThatFit({Need("a", 1)}), 4) << "too small for all: the start says so, not this";
  EXPECT_EQ(SlotsThatFit({Need("a", 0)}), 4);
}

TEST(SlotChoice, EveryDeviceMustHoldTheRanksThatShareIt) {
  EXPECT_EQ(SlotsThatFit({Need("a", 500), Need("b", 89)}), 8);
  EXPECT_EQ(SlotsThatFit({Need("a", 500), Need("b", 0)}), 4);
  EXPECT_EQ(SlotsThatFit({Need("a", 223), Need("b", 223)}), 12);
  EXPECT_EQ(SlotsThatFit({Need("a", 223), Need("a", 223)}), 12);
  EXPECT_EQ(SlotsThatFit({Need("a", 222), Need("a", 222)}), 8);
}

TEST(SlotChoice, SettingsKeepWhatWasAskedFor) {
  Config config = TrainingConfigOf({.experts = 7, .layers = 3});
  const MeshShape shape{.data = 1};
  const auto slots = [&](int64_t bytes) {
    return WithSlotsFor(config, shape, bytes).train().weight_grad_slots();
  };
  EXPECT_EQ(slots(int64_t{1} << 40), 0) << "the CPU's own choice";
  config.set_device(DeviceType::CUDA);
  EXPECT_EQ(slots(0), 0);
  EXPECT_EQ(slots(1), 4);
  EXPECT_EQ(slots(int64_t{1} << 40), 12);
  config.mutable_train()->set_weight_grad_slots(5);
  EXPECT_FALSE(LeavesSlotsOpen(config));
  EXPECT_EQ(slots(int64_t{1} << 40), 5);
}

// The rank with most rows decides: the stage of more layers, of which the boundary is the plan's own.
TEST(SlotChoice, TheStageWithMostDecides) {
  Config config = TrainingConfigOf({.experts = 7, .layers = 3});
  config.set_device(DeviceType::CUDA);
  config.mutable_train()->set_global_batch(16);
  config.mutable_parallel()->set_stages(2);
  const MeshShape shape{.stages = 2, .data = 1};
  config.mutable_train()->set_weight_grad_slots(12);
  int64_t most = 0;
  for (const int rank : {0, 1}) most = std::max(most, PlanMemory(config, shape, rank, 2).total());
  config.mutable_train()->set_weight_grad_slots(0);
  const auto room = static_cast<int64_t>(static_cast<double>(most) / 0.9);
  EXPECT_EQ(WithSlotsFor(config, shape, room + 2).train().weight_grad_slots(), 12);
  EXPECT_LT(WithSlotsFor(config, shape, room - 2).train().weight_grad_slots(), 12);
}

}  // namespace
}  // namespace unipool
