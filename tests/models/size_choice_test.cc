#include "models/size_choice.h"

#include <gtest/gtest.h>

#include "models/memory_plan.h"
#include "models/output_head.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "tests/models/training_run.h"

namespace unipool {
namespace {

// Planned bytes are 100, 80 and 60 with 12, 8 and 4 slots, and 30, 10 and 0 more with more logits.
SizeNeed Need(const std::string& device, int64_t device_bytes) {
  return {
      .device = device, .device_bytes = device_bytes, .rank_bytes = {100, 80, 60}, .more_bytes = {30, 10, 0}};
}
int Slots(const std::vector<SizeNeed>& ranks) {
  return SizesThatFit(ranks).slots;
}

TEST(SizeChoice, TheMostSlotsThatLeaveATenthFree) {
  EXPECT_EQ(Slots({Need("a", 112)}), 12);
  EXPECT_EQ(Slots({Need("a", 111)}), 8);
  EXPECT_EQ(Slots({Need("a", 89)}), 8);
  EXPECT_EQ(Slots({Need("a", 88)}), 4);
  EXPECT_EQ(Slots({Need("a", 1)}), 4) << "too small for all: the start says so, not this";
  EXPECT_EQ(Slots({Need("a", 0)}), 4);
}

TEST(SizeChoice, ThenTheMostLogits) {
  const auto expect = [](int64_t device_bytes, int slots, int64_t logits) {
    EXPECT_EQ(SizesThatFit({Need("a", device_bytes)}), (FittingSizes{slots, logits})) << device_bytes;
  };
  expect(145, 12, 1 << 30);  // 130 of 130.5
  expect(144, 12, 1 << 29);
  expect(123, 12, 1 << 29);
  expect(122, 12, 1 << 28);
  expect(111, 8, 1 << 29);  // slots come first
  expect(100, 8, 1 << 29);
  expect(99, 8, 1 << 28);
  expect(88, 4, 1 << 29);
  expect(0, 4, 1 << 28);
}

TEST(SizeChoice, EveryDeviceMustHoldTheRanksThatShareIt) {
  EXPECT_EQ(Slots({Need("a", 500), Need("b", 89)}), 8);
  EXPECT_EQ(Slots({Need("a", 500), Need("b", 0)}), 4);
  EXPECT_EQ(Slots({Need("a", 223), Need("b", 223)}), 12);
  EXPECT_EQ(Slots({Need("a", 223), Need("a", 223)}), 12);
  EXPECT_EQ(Slots({Need("a", 222), Need("a", 222)}), 8);
  EXPECT_EQ(SizesThatFit({Need("a", 500), Need("b", 144)}).logits, 1 << 29);
  EXPECT_EQ(SizesThatFit({Need("a", 289), Need("a", 289)}).logits, 1 << 30);
  EXPECT_EQ(SizesThatFit({Need("a", 288), Need("a", 288)}).logits, 1 << 29);
}

TEST(SizeChoice, SettingsKeepWhatWasAskedFor) {
  Config config = TrainingConfigOf({.experts = 7, .layers = 3});
  const MeshShape shape{.data = 1};
  const auto slots = [&](int64_t bytes) {
    return WithSizesFor(config, shape, bytes).train().weight_grad_slots();
  };
  EXPECT_EQ(slots(int64_t{1} << 40), 0) << "the CPU's own choice";
  config.set_device(DeviceType::CUDA);
  EXPECT_EQ(slots(0), 0);
  EXPECT_EQ(slots(1), 4);
  EXPECT_EQ(slots(int64_t{1} << 40), 12);
  config.mutable_train()->set_weight_grad_slots(5);
  EXPECT_EQ(slots(int64_t{1} << 40), 5);
  EXPECT_TRUE(LeavesSizesOpen(config)) << "of the head";
  config.mutable_train()->set_head_tokens(77);
  EXPECT_FALSE(LeavesSizesOpen(config));
  EXPECT_EQ(WithSizesFor(config, shape, int64_t{1} << 40).train().head_tokens(), 77);
}

// A vocabulary of 51,200 with 2^28, 2^29 and 2^30 logits: chunks of 5120, 10240 and 20736 tokens at most.
TEST(SizeChoice, TheHeadTakesMoreTokensWhereThereIsRoom) {
  Config config = TrainingConfigOf({.experts = 7, .layers = 2});
  config.set_device(DeviceType::CUDA);
  config.mutable_model()->set_vocab(51200);
  config.mutable_train()->set_micro_batch(4096);
  config.mutable_train()->set_global_batch(4096);
  const MeshShape shape{.data = 1};
  EXPECT_EQ(HeadTokens(config), 5120) << "where nothing is known";
  const auto planned = [&](int slots, int tokens) {
    Config with = config;
    with.mutable_train()->set_weight_grad_slots(slots);
    with.mutable_train()->set_head_tokens(tokens);
    return static_cast<double>(PlanMemory(with, shape, 0, 2).total()) / 0.9;
  };
  const auto chosen = [&](double bytes) {
    return HeadTokens(WithSizesFor(config, shape, static_cast<int64_t>(bytes)));
  };
  EXPECT_EQ(chosen(planned(12, 20736) + 2), 20736);
  EXPECT_EQ(chosen(planned(12, 20736) - 2), 10240);
  EXPECT_EQ(chosen(planned(12, 10240) + 2), 10240);
  EXPECT_EQ(chosen(planned(12, 10240) - 2), 5120);
  // What is planned is what the head takes: logits of even chunks, in BF16.
  const int64_t tokens = 4096 * config.model().seq_length();
  const auto logits = [&](int64_t most) {
    return OutputHead::ChunkTokens(tokens, most, Device::kCuda) * PaddedVocab(config.model()) * 2;
  };
  EXPECT_NEAR(0.9 * (planned(4, 20736) - planned(4, 5120)), static_cast<double>(logits(20736) - logits(5120)),
              2);
  config.mutable_parallel()->set_stages(2);
  config.mutable_train()->set_global_batch(16384);
  EXPECT_EQ(HeadTokens(WithSizesFor(config, {.stages = 2, .data = 1}, int64_t{1} << 45)), 5120)
      << "pieces that spread over slots";
}

// The rank with most rows decides: the stage of more layers, of which the boundary is the plan's own.
TEST(SizeChoice, TheStageWithMostDecides) {
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
  EXPECT_EQ(WithSizesFor(config, shape, room + 2).train().weight_grad_slots(), 12);
  EXPECT_LT(WithSizesFor(config, shape, room - 2).train().weight_grad_slots(), 12);
}

}  // namespace
}  // namespace unipool
