// What state.json says at each point of a run's life.
#include "launcher/run_control/run_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class RunStateTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "run_state";
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }
  RunStateKeeper::Start Start() const {
    return {.run_dir = dir_, .target_steps = 100, .writes = true, .hosts = {"a", "a", "b"}};
  }
  Json Read() const { return Json::parse(std::ifstream(dir_ + "/state.json")); }

  std::string dir_;
};

TEST_F(RunStateTest, FromStartToFinish) {
  RunStateKeeper keeper;
  EXPECT_FALSE(keeper.has_begun());
  keeper.End("failed", {.exit_code = 2, .reason = "too early"});  // no run, nothing to write
  EXPECT_FALSE(fs::exists(dir_ + "/state.json"));
  keeper.Begin(Start());
  Json json = Read();
  EXPECT_EQ(json["status"], "running");
  EXPECT_TRUE(json["exit_code"].is_null());
  EXPECT_EQ(json["reason"], "");
  EXPECT_EQ(json["step"], 0);
  EXPECT_EQ(json["saved_step"], -1);
  EXPECT_EQ(json["target_steps"], 100);
  EXPECT_EQ(json["hosts"], (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(json["ranks"], 3);
  EXPECT_EQ(json["pid"], getpid());
  EXPECT_FALSE(json["version"].get<std::string>().empty());
  EXPECT_TRUE(json["step_seconds"].is_null());
  EXPECT_TRUE(json["previous_end"].is_null());

  for (int step = 1; step <= 10; ++step) keeper.StepDone(step, step);
  keeper.Saved(10, 7);
  json = Read();
  EXPECT_EQ(json["step"], 10);
  EXPECT_EQ(json["steps_this_start"], 10);
  EXPECT_EQ(json["saved_step"], 10);
  EXPECT_EQ(json["step_seconds"], (Json{{"median", 5}, {"p90", 9}, {"max", 10}}));
  EXPECT_EQ(json["save_seconds"]["max"], 7);

  keeper.End("finished", {.exit_code = 0, .reason = "all 100 steps are done"});
  json = Read();
  EXPECT_EQ(json["status"], "finished");
  EXPECT_EQ(json["exit_code"], 0);
  EXPECT_EQ(json["reason"], "all 100 steps are done");
  EXPECT_EQ(ReadRunState(dir_)->end.step, 10);
}

TEST_F(RunStateTest, TheNextStartKnowsTheEndBeforeAndItsTimes) {
  {
    RunStateKeeper keeper;
    keeper.Begin(Start());
    keeper.StepDone(1, 2);
    keeper.Saved(1, 30);
    keeper.End("failed", {.exit_code = 3, .reason = "stuck", .suspects = {"b"}});
  }
  EXPECT_EQ(Read()["suspect_hosts"], std::vector<std::string>{"b"});
  RunStateKeeper keeper;
  keeper.Begin(Start());
  keeper.SetStart(1, true);
  Json json = Read();
  EXPECT_EQ(json["status"], "running");
  EXPECT_EQ(json["saved_step"], 1);
  EXPECT_EQ(json["steps_this_start"], 0);
  EXPECT_EQ(json["previous_end"],
            (Json{{"status", "failed"}, {"reason", "stuck"}, {"exit_code", 3}, {"step", 1}}));
  EXPECT_EQ(json["save_seconds"]["max"], 30);
  RunStateKeeper third;  // the second was killed
  third.Begin(Start());
  EXPECT_EQ(Read()["previous_end"]["reason"], "killed: no end was written");
  EXPECT_TRUE(Read()["previous_end"]["exit_code"].is_null());
}

TEST_F(RunStateTest, JobAndRestartCountAreSlurms) {
  setenv("SLURM_JOB_ID", "77", 1);
  setenv("SLURM_RESTART_COUNT", "3", 1);
  RunStateKeeper keeper;
  keeper.Begin(Start());
  EXPECT_EQ(Read()["job_id"], "77");
  EXPECT_EQ(Read()["restart_count"], 3);
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_RESTART_COUNT");
  keeper.Begin(Start());
  EXPECT_TRUE(Read()["job_id"].is_null());
  EXPECT_EQ(Read()["restart_count"], 0);
}

TEST_F(RunStateTest, AnotherProcessWritesOnlyTheEnd) {
  RunStateKeeper other;
  RunStateKeeper::Start start = Start();
  start.writes = false;
  other.Begin(start);
  other.StepDone(4, 1);
  other.Saved(4, 1);
  EXPECT_FALSE(fs::exists(dir_ + "/state.json"));
  other.End("failed", {.exit_code = 3, .reason = "stuck"});
  EXPECT_EQ(Read()["step"], 4);
}

TEST_F(RunStateTest, OfSeveralProcessesThatFailTheFirstIsBelieved) {
  RunStateKeeper keeper;
  keeper.Begin(Start());
  Json first = Read();
  first["status"] = "failed";
  first["reason"] = "stuck: rank 2";
  first["suspect_hosts"] = {"b"};
  first["pid"] = first["pid"].get<int64_t>() + 1;
  first["updated"] = first["updated"].get<double>() + 1;
  std::ofstream(dir_ + "/state.json") << first;
  keeper.End("failed", {.exit_code = 3, .reason = "stuck: rank 0 is gone", .suspects = {"a"}});
  EXPECT_EQ(Read()["reason"], "stuck: rank 2");
  EXPECT_EQ(Read()["suspect_hosts"], std::vector<std::string>{"b"});
  first["updated"] = first["updated"].get<double>() - 1000;  // of a start before
  std::ofstream(dir_ + "/state.json") << first;
  keeper.End("failed", {.exit_code = 3, .reason = "stuck: rank 0 is gone", .suspects = {"a"}});
  EXPECT_EQ(Read()["suspect_hosts"], std::vector<std::string>{"a"});
}

TEST_F(RunStateTest, WhatIsNoStateIsWrittenAnewAndAsidesGo) {
  for (const char* text : {"", "{}", "[1]", "{\"step\": \"x\"}", "null"}) {
    std::ofstream(dir_ + "/state.json") << text;
    std::ofstream(dir_ + "/state.json.123.tmp") << "half";
    EXPECT_FALSE(ReadRunState(dir_)) << text;
    RunStateKeeper keeper;
    keeper.Begin(Start());
    EXPECT_EQ(Read()["status"], "running");
    EXPECT_FALSE(fs::exists(dir_ + "/state.json.123.tmp"));
  }
  fs::remove(dir_ + "/state.json");
  ASSERT_EQ(mkfifo((dir_ + "/state.json").c_str(), 0600), 0);
  EXPECT_FALSE(ReadRunState(dir_));
}

TEST_F(RunStateTest, AnEndInAdvanceChangesNothing) {
  RunStateKeeper keeper;
  keeper.Begin(Start());
  EXPECT_EQ(Json::parse(
                keeper.TextWithEnd("failed", {.exit_code = 143, .reason = "a second SIGTERM"}))["exit_code"],
            143);
  EXPECT_EQ(Read()["status"], "running");
}

}  // namespace
}  // namespace unipool
