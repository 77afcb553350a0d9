// Runs that went on with other settings, and runs that only seem to have.
#include "launcher/reports/earlier_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "launcher/checkpoints/resume_effect.h"
#include "launcher/config.h"
#include "models/learning_rate.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

Config Settings(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all = {"train.steps=20", "model.seq_length=8", "train.global_batch=4"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return ParseConfig("", "empty", all);
}

class EarlierSettingsTest : public testing::Test {
 protected:
  EarlierSettingsTest() : run_(testing::TempDir() + "earlier_settings") { fs::remove_all(run_); }
  ~EarlierSettingsTest() override { fs::remove_all(run_); }
  // Steps of a start with such settings.
  void Train(const Config& config, int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; ++step) {
      tokens_ += int64_t{config.train().global_batch()} * config.model().seq_length();
      series_["lr"].emplace_back(step, LearningRate(ScheduleOf(config.train()), step - 1));
      series_["tokens"].emplace_back(step, static_cast<double>(tokens_));
    }
  }
  void Save(const Config& config, int64_t step) {
    const fs::path folder = fs::path(run_) / "checkpoints" / ("step-" + std::to_string(step));
    fs::create_directories(folder);
    std::ofstream(folder / "config.txtpb") << ResolvedConfigText(config);
  }
  EarlierSettings Found(const Config& now) const { return FindEarlierSettings(run_, now, series_); }

  const std::string run_;
  MetricSeries series_;
  int64_t tokens_ = 0;
};

TEST_F(EarlierSettingsTest, NoneOfARunThatKeptThem) {
  Train(Settings(), 1, 20);
  Save(Settings({"run_dir=moved", "train.save_every=3", "train.stop_at=3h", "traffic.record=OFF"}), 10);
  Save(Settings(), 20);
  EXPECT_EQ(Found(Settings()).words, "");
  EXPECT_EQ(Found(Settings()).step, 0);
  EXPECT_EQ(FindEarlierSettings("/nowhere", Settings(), {}).words, "");
}

TEST_F(EarlierSettingsTest, AnotherRateIsSeenInTheMetricsAlone) {
  Train(Settings({"train.lr=2e-3"}), 1, 12);
  Train(Settings(), 13, 20);
  EXPECT_EQ(Found(Settings()).step, 12);
  EXPECT_THAT(Found(Settings()).words,
              StartsWith("had other settings up to step 12: learning rate 0.0007857"));
  EXPECT_THAT(Found(Settings()).words, HasSubstr(" there, by the settings 0.0002198"));
}

TEST_F(EarlierSettingsTest, ACheckpointTellsWhichSettingsTheyWere) {
  Train(Settings({"train.lr=2e-3"}), 1, 12);
  Save(Settings({"train.lr=2e-3"}), 6);
  Save(Settings({"train.lr=2e-3"}), 12);
  Train(Settings(), 13, 20);
  Save(Settings(), 20);
  EXPECT_EQ(Found(Settings()).words, "had other settings up to step 12: train.lr 0.002 (now 0.0005)");
}

TEST_F(EarlierSettingsTest, WhatLeavesTheRateAloneIsToldByCheckpoints) {
  Train(Settings(), 1, 20);
  Save(Settings({"train.weight_decay=0.3", "moe.balance_coeff=0.5"}), 6);
  Save(Settings(), 12);
  EXPECT_EQ(
      Found(Settings()).words,
      "had other settings at step 6: moe.balance_coeff 0.5 (now 0.01), train.weight_decay 0.3 (now 0.01)");
}

TEST_F(EarlierSettingsTest, AnotherBatchIsSeenInTheTokens) {
  Train(Settings({"train.global_batch=8"}), 1, 7);
  Train(Settings(), 8, 20);
  EXPECT_EQ(Found(Settings()).words, "had other settings up to step 7: 64 tokens a step, by the settings 32");
}

TEST_F(EarlierSettingsTest, ALengthenedRunWhoseRatesFitIsOne) {
  const std::vector<std::string> constant = {"train.lr_schedule=CONSTANT"};
  Train(Settings({"train.lr_schedule=CONSTANT", "train.steps=12"}), 1, 12);
  Save(Settings({"train.lr_schedule=CONSTANT", "train.steps=12"}), 12);
  Train(Settings(constant), 13, 20);
  EXPECT_EQ(Found(Settings(constant)).words, "");
}

TEST_F(EarlierSettingsTest, ALengthenedCosineIsTwoCurves) {
  Train(Settings({"train.steps=12"}), 1, 12);
  Save(Settings({"train.steps=12"}), 12);
  Train(Settings(), 13, 20);
  EXPECT_EQ(Found(Settings()).words, "had other settings up to step 12: train.steps 12 (now 20)");
}

TEST_F(EarlierSettingsTest, WhatCannotBeReadTellsNothing) {
  Train(Settings(), 1, 20);
  fs::create_directories(fs::path(run_) / "checkpoints" / "step-3");
  fs::create_directories(fs::path(run_) / "checkpoints" / "step-5" / "config.txtpb");
  Save(Settings(), 9);
  std::ofstream(fs::path(run_) / "checkpoints" / "step-9" / "config.txtpb") << "train { no_such: 3 }";
  series_["lr"].emplace_back(21, std::nan(""));
  series_["lr"].emplace_back(0, 17);
  EXPECT_EQ(Found(Settings()).words, "");
}

}  // namespace
}  // namespace unipool
