#include "launcher/slurm/start_ledger.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

namespace unipool {
namespace {

using testing::ElementsAre;

class StartLedgerTest : public testing::Test {
 protected:
  void SetUp() override {
    run_dir_ = testing::TempDir() + "ledger-" + std::to_string(getpid());
    std::filesystem::remove_all(run_dir_);
  }
  void TearDown() override { std::filesystem::remove_all(run_dir_); }
  std::string run_dir_;
};

TEST_F(StartLedgerTest, NothingIsAnEmptyLedger) {
  EXPECT_TRUE(ReadLedger(run_dir_).submissions.empty());
}

TEST_F(StartLedgerTest, WhatIsNotedIsRead) {
  const LedgerStart first{
      .job = "12", .restart = 0, .nodes = "n[0-1]", .log = "logs/12.out", .log_offset = 99},
      second{.job = "12", .restart = 1, .step = 7};
  NoteSubmission(run_dir_, {.jobs = {"12"}, .script = "001.sbatch", .name = "a\"b", .chain = "requeue"});
  NoteStart(run_dir_, first);
  NoteBadNodes(run_dir_, first, {.nodes = {"n1"}, .reason = "slow"});
  NoteEnd(run_dir_, first,
          {.exit_code = 3,
           .action = StartAction::kRequeue,
           .failed = true,
           .reason = "stuck",
           .step = 7,
           .steps = 7,
           .excluded = {"n1"}});
  NotePicked(run_dir_, first, {.nodes = {"n0"}, .spare = {"n1"}, .reason = "n1: slow"});
  NoteStart(run_dir_, second);
  const Ledger ledger = ReadLedger(run_dir_);
  ASSERT_EQ(ledger.submissions.size(), 1U);
  const Submission& submission = ledger.submissions[0];
  EXPECT_EQ(submission.name, "a\"b");
  ASSERT_EQ(submission.starts.size(), 2U);
  const LedgerStart& start = submission.starts[0];
  ASSERT_TRUE(start.end && start.bad_nodes);
  EXPECT_EQ(start.end->exit_code, 3);
  EXPECT_EQ(start.end->action, StartAction::kRequeue);
  EXPECT_TRUE(start.end->failed);
  EXPECT_THAT(start.end->excluded, ElementsAre("n1"));
  EXPECT_EQ(start.nodes, "n[0-1]");
  ASSERT_TRUE(start.picked);
  EXPECT_THAT(start.picked->nodes, ElementsAre("n0"));
  EXPECT_THAT(start.picked->spare, ElementsAre("n1"));
  EXPECT_EQ(start.picked->reason, "n1: slow");
  EXPECT_EQ(LogOf(run_dir_, start), "logs/12.out");
  EXPECT_EQ(start.log_offset, 99);
  EXPECT_EQ(LogOf("runs/a", submission.starts[1]), "runs/a/logs/12.out");
  EXPECT_GT(start.time, 0);
  EXPECT_FALSE(submission.starts[1].end);
  EXPECT_EQ(submission.starts[1].step, 7);
}

TEST_F(StartLedgerTest, ABrokenLineSpoilsNoOther) {
  NoteSubmission(run_dir_, {.jobs = {"12"}});
  std::ofstream(SubmitFolder(run_dir_) + "/ledger.jsonl", std::ios::app) << "{\"event\": \"sta";
  NoteStart(run_dir_, {.job = "12"});
  const Ledger ledger = ReadLedger(run_dir_);
  ASSERT_EQ(ledger.submissions.size(), 1U);
  EXPECT_EQ(ledger.submissions[0].starts.size(), 1U);
}

TEST(ParseLedger, AJobMayBeginBeforeItsSubmissionIsNoted) {
  const Ledger ledger = ParseLedger(
      R"({"event":"submitted","time":1,"jobs":["5"],"script":"","name":"","chain":""}
{"event":"start","time":1,"job":"5","restart":0,"step":0,"nodes":"n0"}
{"event":"submitted","time":2,"jobs":["5","6"],"script":"001.sbatch","name":"x","chain":"dependency"}
{"event":"term","time":3,"job":"5","restart":0}
)");
  ASSERT_EQ(ledger.submissions.size(), 1U);
  EXPECT_EQ(ledger.submissions[0].script, "001.sbatch");
  ASSERT_EQ(ledger.submissions[0].starts.size(), 1U);
  EXPECT_TRUE(ledger.submissions[0].starts[0].was_terminated);
}

TEST(ParseLedger, WhatIsNoEventIsLeftOut) {
  for (const char* text :
       {"[]", "1", "{}", "{\"event\": 1}", "{\"event\":\"start\"}", "{\"event\":\"end\",\"job\":\"1\"}"})
    EXPECT_NO_THROW(ParseLedger(text)) << text;
}

}  // namespace
}  // namespace unipool
