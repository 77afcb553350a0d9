// When a checkpoint is one to go back to. ln(256, 260) + 1 = 6.55 nats.
#include "launcher/checkpoints/loss_record.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unipool {
namespace {

LossRecord RecordOf(std::initializer_list<double> losses) {
  LossRecord record(256, 260);
  for (const double loss : losses) record.AddStep(loss, !std::isfinite(loss));
  return record;
}

TEST(LossRecord, JudgesTheMeanAndTheLossOfTheWeights) {
  const double nan = std::nan("");
  const SavedLoss saved = RecordOf({5, 6, nan, 4}).Judge(4.5);
  EXPECT_EQ(saved.mean, 5) << "a skipped step does not count";
  EXPECT_EQ(saved.after, 4.5);
  EXPECT_EQ(saved.lowest, 5);
  EXPECT_TRUE(saved.sound);
  EXPECT_TRUE(RecordOf({6.5}).Judge(6.5).sound);
  EXPECT_FALSE(RecordOf({6.6}).Judge(6).sound);
  EXPECT_FALSE(RecordOf({5}).Judge(6.6).sound) << "the last update spoilt the weights";
  EXPECT_FALSE(RecordOf({5}).Judge(nan).sound);
  EXPECT_FALSE(RecordOf({nan}).Judge(5).sound) << "no step counted";
  EXPECT_FALSE(RecordOf({}).Judge(5).sound);
  EXPECT_FALSE(RecordOf({5}).Judge(std::log(260.0)).sound) << "it answers nothing";
}

TEST(LossRecord, AtMostTwoAboveTheLowestOfTheRun) {
  LossRecord record = RecordOf({3});
  record.Saved(record.Judge(3));
  record.AddStep(4.9, false);
  EXPECT_TRUE(record.Judge(4.9).sound);
  EXPECT_EQ(record.Judge(4.9).lowest, 3);
  EXPECT_FALSE(record.Judge(5.1).sound);
  record.AddStep(5.4, false);
  EXPECT_FALSE(record.Judge(3).sound) << "the mean is 5.15";
  record.Saved(record.Judge(3));
  record.AddStep(3.2, false);
  EXPECT_FALSE(record.Judge(3).sound) << "not back where it was";
  record.Saved(record.Judge(3));
  record.AddStep(3.05, false);
  EXPECT_TRUE(record.Judge(3.05).sound);
  record.Saved(record.Judge(3.05));
  record.AddStep(2, false);
  EXPECT_EQ(record.Judge(2).lowest, 2);

  LossRecord later(256, 260);
  later.Continue(R"({"step": 5, "lowest_loss": 1.5})");
  later.AddStep(3.6, false);
  EXPECT_FALSE(later.Judge(2).sound);
  for (const char* text : {"", "[]", R"({"lowest_loss": null})", R"({"lowest_loss": "1"})"}) {
    LossRecord unknown(256, 260);
    unknown.Continue(text);
    unknown.AddStep(6, false);
    EXPECT_TRUE(unknown.Judge(6).sound) << text;
  }
}

TEST(LossRecord, CountsSkippedStepsInARow) {
  LossRecord record(256, 260);
  EXPECT_FALSE(record.has_stepped());
  for (const bool is_skipped : {true, true, false, true}) record.AddStep(1, is_skipped);
  EXPECT_TRUE(record.has_stepped());
  EXPECT_EQ(record.skipped_in_a_row(), 1);
}

}  // namespace
}  // namespace unipool
