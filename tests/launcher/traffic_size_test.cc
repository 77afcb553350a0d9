#include "launcher/traffic/traffic_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using ::testing::HasSubstr;

// One stage of 2 layers, 3 microbatches: forward slots 3 * 2, backward slots 3 * 2, each with 3 and 2
// exchanges; a sum in one round, and 64 small ones.
TEST(TrafficSize, ExchangesOfAStep) {
  const TrafficSize size = TrafficSizeOf(SlotSchedule({2}, 3), {.data = 4}, 1000);
  EXPECT_EQ(size.exchanges, 3 * 6 + 2 * 6 + 4 + 64);
  EXPECT_EQ(size.peers, 3 * size.exchanges);
  EXPECT_DOUBLE_EQ(size.megabytes(), 1e-6 * static_cast<double>(184 * size.exchanges + 24 * size.peers));
  // Two stages of one layer: time steps 0 .. 5, forward work in 4 of them, backward work in 4; hidden states.
  const TrafficSize staged = TrafficSizeOf(SlotSchedule({1, 1}, 3), {.stages = 2, .data = 2}, 1000);
  EXPECT_EQ(staged.exchanges, 3 * 4 + 2 * 4 + 2 * 6 + 4 + 64);
  const TrafficSize spread =
      TrafficSizeOf(SlotSchedule({1, 1}, 3, false, HeadPlace::kSpread), {.stages = 2, .data = 2}, 1000);
  EXPECT_EQ(spread.exchanges - staged.exchanges, 2 * 3);  // rows there and gradients back, by microbatch
  EXPECT_EQ(spread.peers - staged.peers, 2 * 3);
  const TrafficSize alone = TrafficSizeOf(SlotSchedule({2}, 3), {}, 1000);
  EXPECT_EQ(alone.exchanges, 68);
  EXPECT_EQ(alone.peers, 0);
}

TEST(TrafficSize, ARefusalHasNumbersAndAlternatives) {
  const TrafficSize step{.exchanges = 3840, .peers = int64_t{3840} * 4095};
  EXPECT_NEAR(step.megabytes(), 378, 1);
  const std::string problem = TooLarge(step, 3, 256);
  EXPECT_THAT(problem, HasSubstr("3840 exchanges"));
  EXPECT_THAT(problem, HasSubstr("1134 MB"));
  EXPECT_THAT(problem, HasSubstr("traffic.max_megabytes is 256"));
  EXPECT_THAT(problem, HasSubstr("raise it to 1135"));
  EXPECT_THAT(problem, HasSubstr("SUMMARY"));
  EXPECT_EQ(problem.find("num_steps"), problem.npos);  // not even one fits
  EXPECT_THAT(TooLarge(step, 3, 1000), HasSubstr("traffic.num_steps=2"));
  EXPECT_EQ(TooLarge(step, 3, 1200), "");
}

TEST(TrafficSize, SaysWhenFullWillRecordNothing) {
  Config config;
  config.mutable_traffic()->set_record(TrafficConfig::FULL);
  config.mutable_traffic()->set_first_step(50);
  config.mutable_train()->set_steps(51);
  EXPECT_EQ(NothingRecorded(config, 0), "");
  EXPECT_THAT(NothingRecorded(config, 1), HasSubstr("traffic.first_step=50 after this start is step 51"));
  config.mutable_train()->set_steps(4);
  EXPECT_THAT(NothingRecorded(config, 0), HasSubstr("train.steps=4"));
  config.mutable_traffic()->set_record(TrafficConfig::SUMMARY);
  EXPECT_EQ(NothingRecorded(config, 0), "");
}

}  // namespace
}  // namespace unipool
