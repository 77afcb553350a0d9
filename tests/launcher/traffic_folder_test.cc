#include "launcher/traffic/traffic_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/file_sum.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TrafficFolderTest : public ::testing::Test {
 protected:
  TrafficFolderTest() { fs::remove_all(run_dir_); }
  ~TrafficFolderTest() override { fs::remove_all(run_dir_); }
  const std::string run_dir_ = ::testing::TempDir() + "traffic_folder_" + std::to_string(getpid());
  const TrafficFolder folder_{run_dir_};
};

TEST_F(TrafficFolderTest, WhatAnEarlierStartLeftMovesAside) {
  EXPECT_EQ(folder_.Prepare(), "");
  EXPECT_EQ(folder_.Prepare(), "");  // nothing to move: nothing is made
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  for (const int start : {1, 2}) {
    EXPECT_EQ(folder_.Write("manifest.json", "of start " + std::to_string(start)), "");
    EXPECT_EQ(folder_.Write("window-0-9.json", "w"), "");
    EXPECT_EQ(folder_.Write("rank-00000.bin", "r"), "");
    EXPECT_EQ(folder_.Write("report.html", "kept"), "");
    EXPECT_EQ(folder_.Prepare(), "");
    const std::string before = folder_.path() + "/before-" + std::to_string(start);
    EXPECT_EQ(ReadTextFile(before + "/manifest.json"), "of start " + std::to_string(start));
    EXPECT_TRUE(fs::exists(before + "/window-0-9.json"));
    EXPECT_TRUE(fs::exists(before + "/rank-00000.bin"));
    EXPECT_FALSE(fs::exists(folder_.path() + "/manifest.json"));
    EXPECT_TRUE(fs::exists(folder_.path() + "/report.html"));
  }
}

TEST_F(TrafficFolderTest, ProblemsAreSentences) {
  EXPECT_THAT(folder_.Write("manifest.json", "x"), HasSubstr(folder_.path()));
  WriteTextFile(run_dir_, "a file where the folder should be");
  EXPECT_THAT(folder_.Prepare(), HasSubstr(folder_.path()));
}

TEST_F(TrafficFolderTest, TheTriggerIsTakenOnce) {
  EXPECT_EQ(folder_.TakeTrigger(3).steps, 0);
  EXPECT_EQ(folder_.Prepare(), "");
  const std::string trigger = folder_.path() + "/record";
  const auto take = [&](const std::string& text) {
    WriteTextFile(trigger, text);
    const Trigger taken = folder_.TakeTrigger(3);
    EXPECT_FALSE(fs::exists(trigger));
    EXPECT_EQ(folder_.TakeTrigger(3).steps, 0);
    EXPECT_EQ(taken.problem.empty(), text.find_first_not_of(" \n") == text.npos || taken.steps == 7)
        << taken.problem;
    return taken.steps;
  };
  EXPECT_EQ(take("7\n"), 7);
  EXPECT_EQ(take(""), 3);
  EXPECT_EQ(take("many"), 3);
  EXPECT_EQ(take("-2"), 3);
  EXPECT_EQ(take(" \n"), 3);
  EXPECT_EQ(take("0"), 3);
  EXPECT_EQ(take("7 steps"), 3);
  EXPECT_EQ(take("100000"), Trigger::kMostSteps);
  EXPECT_EQ(take("99999999999999999999"), Trigger::kMostSteps);
  EXPECT_EQ(take(std::string(1000, '9')), 3);
  fs::create_directories(trigger + "/full");  // cannot be taken away, so it asks for nothing
  EXPECT_EQ(folder_.TakeTrigger(3).steps, 0);
}

}  // namespace
}  // namespace unipool
