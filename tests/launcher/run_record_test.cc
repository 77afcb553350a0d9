// Reading the metrics of a run from outside.
#include "launcher/reports/run_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class RunRecordTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing::TempDir() + "run_record_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Append(const std::string& text) { std::ofstream(folder_ + "/metrics.jsonl", std::ios::app) << text; }
  std::string Problem(const std::string& path) {
    try {
      RunRecord record(path);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  std::string folder_;
};

TEST_F(RunRecordTest, FollowsAFileThatGrows) {
  Append(
      "{\"step\":1,\"loss\":2.5,\"peak_memory\":{\"weights\":7},\"pool_loss_over_balance\":null}\n{\"step\":"
      "2,\"lo");
  RunRecord record(folder_ + "/");
  EXPECT_EQ(record.path(), folder_);
  EXPECT_EQ(record.last_step(), 1);
  EXPECT_THAT(record.Series("loss"), ElementsAre(Pair(1, 2.5)));
  EXPECT_THAT(record.Series("peak_memory.weights"), ElementsAre(Pair(1, 7)));
  EXPECT_TRUE(std::isnan(record.Series("pool_loss_over_balance")[0].second));
  EXPECT_FALSE(record.Read()) << "the torn line waits";
  Append("ss\":2.25}\n{\"step\":2,\"valid_loss\":3}\n");
  EXPECT_TRUE(record.Read());
  EXPECT_THAT(record.Series("loss"), ElementsAre(Pair(1, 2.5), Pair(2, 2.25)));
  EXPECT_THAT(record.Series("valid_loss"), ElementsAre(Pair(2, 3)));
  EXPECT_FALSE(record.Read());
}

TEST_F(RunRecordTest, BeginsAnewWithAnotherFile) {
  Append("{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":2}\n");
  RunRecord record(folder_);
  std::ofstream(folder_ + "/new") << "{\"step\":1,\"loss\":2.5}\n";
  fs::rename(folder_ + "/new", folder_ + "/metrics.jsonl");
  EXPECT_TRUE(record.Read());
  EXPECT_THAT(record.Series("loss"), ElementsAre(Pair(1, 2.5)));
  EXPECT_EQ(record.last_step(), 1);
}

TEST_F(RunRecordTest, AFileOfMetricsWillDo) {
  Append("{\"step\":3,\"loss\":2.5}\n");
  EXPECT_EQ(RunRecord(folder_ + "/metrics.jsonl").last_step(), 3);
}

TEST_F(RunRecordTest, ARunThatHasJustBegunHasNoNumbers) {
  std::ofstream(folder_ + "/state.json") << "{}";
  RunRecord record(folder_);
  EXPECT_TRUE(record.series().empty());
  EXPECT_THROW(record.Series("loss"), UserError);
  Append("{\"step\":1,\"loss\":2.5}\n");
  EXPECT_TRUE(record.Read());
  EXPECT_THAT(record.Series("loss"), ElementsAre(Pair(1, 2.5)));
}

TEST_F(RunRecordTest, WhatIsNoRunIsASentence) {
  EXPECT_THAT(Problem(folder_), HasSubstr("is not the folder of a run"));
  EXPECT_THAT(Problem(folder_ + "/nowhere"), HasSubstr("no such folder"));
  EXPECT_THAT(Problem(""), HasSubstr("no such folder"));
  EXPECT_THAT(Problem("/dev/null"), HasSubstr("neither a folder nor a file"));
  Append("{\"step\":1}\nnonsense\n");
  EXPECT_THAT(Problem(folder_), HasSubstr("metrics.jsonl line 2: is no JSON object"));
  fs::remove(folder_ + "/metrics.jsonl");
  Append("{\"epoch\":1}\n");
  EXPECT_THAT(Problem(folder_), HasSubstr("line 1: has no \"step\": another program wrote it"));
  fs::remove(folder_ + "/metrics.jsonl");
  Append(std::string(3 << 20, 'x'));
  EXPECT_THAT(Problem(folder_), HasSubstr("no file of metrics"));
  fs::remove(folder_ + "/metrics.jsonl");
  ASSERT_EQ(mkfifo((folder_ + "/metrics.jsonl").c_str(), 0600), 0);
  EXPECT_THAT(Problem(folder_), HasSubstr("is no regular file"));
}

TEST_F(RunRecordTest, LeavesOutLinesThatAreWrong) {
  Append(
      "{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":\"abc\"}\n{\"step\":-3,\"loss\":2}\n"
      "{\"step\":1,\"loss\":9}\n{\"step\":2,\"loss\":2,\"made_by\":\"me\"}\n{\"step\":2,\"valid_loss\":3}\n");
  const RunRecord record(folder_);
  EXPECT_THAT(record.Series("loss"), ElementsAre(Pair(1, 2.5), Pair(2, 2)));
  EXPECT_THAT(record.Series("valid_loss"), ElementsAre(Pair(2, 3)));
  EXPECT_THAT(record.LeftOut(),
              testing::EndsWith("3 lines are left out, the first is line 2: loss is no number"));
  Append("{\"step\":3,\"loss\":1e999}\n");
  EXPECT_THAT(Problem(folder_), HasSubstr("line 7: has a number that is larger than any"));
  fs::remove(folder_ + "/metrics.jsonl");
  Append("{\"step\":5e30}\n");
  EXPECT_THAT(Problem(folder_), HasSubstr("line 1: its \"step\" is 5e+30, which is no whole number"));
}

TEST_F(RunRecordTest, NamesTheRunOfACheckpoint) {
  const std::string checkpoint = folder_ + "/checkpoints/step-10";
  fs::create_directories(checkpoint);
  std::ofstream(checkpoint + "/config.txtpb") << "";
  std::ofstream(checkpoint + "/training_state.json") << "{}";
  EXPECT_THAT(Problem(checkpoint + "/"), testing::EndsWith("is a checkpoint; give its run: " + folder_));
}

TEST_F(RunRecordTest, AFolderThatOneMayNotEnter) {
  Append("{\"step\":1,\"loss\":2.5}\n");
  fs::permissions(folder_, fs::perms::none);
  const bool is_root = geteuid() == 0;  // whom nothing stops
  ASSERT_EQ(seteuid(is_root ? 65534 : geteuid()), 0);
  EXPECT_THAT(Problem(folder_), HasSubstr("cannot be entered (Permission denied)"));
  ASSERT_EQ(seteuid(is_root ? 0 : geteuid()), 0);
  fs::permissions(folder_, fs::perms::owner_all);
}

TEST_F(RunRecordTest, NamesTheNearestMetric) {
  Append("{\"step\":1,\"grad_norm\":2.5}\n");
  try {
    RunRecord(folder_).Series("gradnorm");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("has no metric gradnorm; did you mean grad_norm?"));
  }
}

}  // namespace
}  // namespace unipool
