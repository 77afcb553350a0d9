#include "launcher/slurm/start_verdict.h"

#include <gmock/gmock.h>

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr RestartLimits kLimits{};

// A submission of job 12 whose starts have these ends; the last start has none yet.
class VerdictTest : public testing::Test {
 protected:
  VerdictTest() { ledger_.submissions.push_back({.jobs = {"12"}}); }

  LedgerStart& Start(int64_t step = 0) {
    Submission& submission = ledger_.submissions.back();
    submission.starts.push_back({.job = "12",
                                 .restart = static_cast<int>(submission.starts.size()),
                                 .time = 1000,
                                 .step = step,
                                 .nodes = "n[0-3]"});
    return submission.starts.back();
  }
  // An end of state.json that the last start wrote.
  RunState State(const std::string& status, int code, const std::string& reason, int64_t step) {
    const LedgerStart& start = ledger_.submissions.back().starts.back();
    RunState state{.job_id = start.job, .restart_count = start.restart, .started = 1001};
    state.end = {.status = status, .reason = reason, .step = step};
    if (status != "running") state.end.exit_code = code;
    state.target_steps = 100;
    return state;
  }
  StartEnd Judge(const StartOutcome& outcome, const RestartLimits& limits = kLimits) {
    const StartEnd end = JudgeEnd(ledger_, ledger_.submissions.back().starts.back(), outcome, limits);
    ledger_.submissions.back().starts.back().end = end;
    return end;
  }
  Ledger ledger_;
};

TEST_F(VerdictTest, StateCountsWhateverTheLauncherSays) {
  for (const int lie : {0, 1, 2, 143}) {
    Start();
    EXPECT_EQ(
        Judge({.launcher_code = lie, .state = State("finished", 0, "all 100 steps are done", 100)}).action,
        StartAction::kDone);
    Start(10);
    const StartEnd stopped =
        Judge({.launcher_code = lie, .state = State("stopped", 75, "stopped by SIGUSR2", 20)});
    EXPECT_EQ(stopped.action, StartAction::kRequeue) << lie;
    EXPECT_EQ(stopped.exit_code, 75);
    EXPECT_EQ(stopped.steps, 10);
    EXPECT_FALSE(stopped.failed);
    Start(20);
    EXPECT_EQ(Judge({.launcher_code = lie, .state = State("failed", 76, "disk full", 30)}).action,
              StartAction::kGiveUp);
  }
}

TEST_F(VerdictTest, AStateOfAnotherStartDoesNotCountAndALaunchThatFailsIsTriedAgain) {
  for (int i = 0; i < 3; ++i) {
    Start();
    RunState old = State("stopped", 75, "stopped by SIGUSR2", 20);
    old.restart_count = 7;
    const StartEnd end = Judge({.launcher_code = i == 0 ? 0 : 137, .state = old});
    EXPECT_EQ(end.action, i < 2 ? StartAction::kRequeue : StartAction::kGiveUp);
    EXPECT_TRUE(end.failed);
    EXPECT_NE(end.exit_code, 0);
    EXPECT_THAT(end.reason, HasSubstr("without a word"));
  }
}

TEST_F(VerdictTest, WrongInputIsNeverRepeated) {
  Start();
  EXPECT_EQ(Judge({.launcher_code = 2}).action, StartAction::kGiveUp);
  Start();
  const StartEnd end =
      Judge({.launcher_code = 1, .state = State("failed", 2, "data.train: no such file", 0)});
  EXPECT_EQ(end.action, StartAction::kGiveUp);
  EXPECT_THAT(end.reason, HasSubstr("no such file"));
}

TEST_F(VerdictTest, AStopThatSomebodyWantedStays) {
  Start();
  EXPECT_EQ(
      Judge({.launcher_code = 75, .state = State("stopped", 75, "stopped by the file stop at step 5", 5)})
          .action,
      StartAction::kGiveUp);
  EXPECT_TRUE(WhyNotStart(ledger_, "12", std::nullopt, 100, kLimits));
  EXPECT_FALSE(WhyNotStart(ledger_, "13", std::nullopt, 100, kLimits)) << "submitted anew";
}

TEST_F(VerdictTest, SlurmStartsAgainWhatItPreempts) {
  Start();
  const RunState state = State("stopped", 75, "stopped by SIGTERM at step 5", 5);
  EXPECT_EQ(Judge({.launcher_code = 143, .heard = "TERM", .seconds_left = 3000, .state = state}).action,
            StartAction::kLeave);
  Start();
  EXPECT_EQ(Judge({.launcher_code = 143,
                   .heard = "TERM",
                   .seconds_left = 3,
                   .state = State("stopped", 75, "stopped by SIGTERM", 5)})
                .action,
            StartAction::kRequeue)
      << "the time was over: Slurm does not start that again";
}

TEST_F(VerdictTest, ASignalBeforeTheProgramHearsItIsNoFailure) {
  Start();
  const StartEnd asked = Judge({.launcher_code = 140, .heard = "USR2"});
  EXPECT_EQ(asked.action, StartAction::kRequeue);
  EXPECT_FALSE(asked.failed);
  Start();
  const StartEnd preempted = Judge({.launcher_code = 143, .heard = "TERM", .seconds_left = 1000});
  EXPECT_EQ(preempted.action, StartAction::kLeave);
  EXPECT_FALSE(preempted.failed);
}

TEST_F(VerdictTest, RanksThatSlurmEndedBeforeTheySavedAreNoFailure) {
  Start();
  const StartEnd end = Judge({.launcher_code = 143,
                              .heard = "TERM",
                              .seconds_left = 1000,
                              .state = State("failed", 143, "ended at once by a second SIGTERM", 20)});
  EXPECT_EQ(end.action, StartAction::kLeave);
  EXPECT_FALSE(end.failed);
  Start(20);
  EXPECT_TRUE(Judge({.launcher_code = 143, .state = State("failed", 143, "a second SIGTERM", 30)}).failed)
      << "nobody said that Slurm wanted the nodes";
}

TEST_F(VerdictTest, StartsWithoutAStepEndTheChain) {
  for (int i = 0; i < 3; ++i) {
    Start(5);
    const StartEnd end =
        Judge({.launcher_code = 75, .heard = "USR2", .state = State("stopped", 75, "stopped by SIGUSR2", 5)});
    EXPECT_EQ(end.action, i < 2 ? StartAction::kRequeue : StartAction::kGiveUp) << i;
  }
}

TEST_F(VerdictTest, ACrashIsRepeatedIfItGotOn) {
  Start();
  const StartEnd end =
      Judge({.launcher_code = 137, .state = State("running", 0, "", 0), .heartbeat_step = 30});
  EXPECT_EQ(end.action, StartAction::kRequeue);
  EXPECT_TRUE(end.failed);
  EXPECT_EQ(end.steps, 30);
  Start(30);
  EXPECT_EQ(Judge({.launcher_code = 137, .state = State("running", 0, "", 30)}).action, StartAction::kGiveUp)
      << "no step";
}

TEST_F(VerdictTest, FailuresInARowHaveALimitAndAStopResetsIt) {
  const auto crash = [&](int64_t from) {
    Start(from);
    return Judge({.launcher_code = 137, .state = State("running", 0, "", from), .heartbeat_step = from + 5})
        .action;
  };
  EXPECT_EQ(crash(0), StartAction::kRequeue);
  EXPECT_EQ(crash(0), StartAction::kRequeue);
  Start(5);
  Judge({.launcher_code = 75, .state = State("stopped", 75, "stopped by SIGUSR2", 9)});
  EXPECT_EQ(crash(9), StartAction::kRequeue);
  Start(9);  // preempted: has no end and is no failure, and breaks no row
  EXPECT_EQ(crash(9), StartAction::kRequeue);
  EXPECT_EQ(crash(9), StartAction::kGiveUp);
}

TEST_F(VerdictTest, RestartsHaveALimit) {
  const RestartLimits limits{.max_restarts = 2};
  for (int i = 0; i < 3; ++i) {
    Start(i);
    EXPECT_EQ(Judge({.launcher_code = 75, .state = State("stopped", 75, "stopped by SIGUSR2", i + 1)}, limits)
                  .action,
              i < 2 ? StartAction::kRequeue : StartAction::kGiveUp);
  }
}

TEST_F(VerdictTest, SuspectNodesAreLeftOutUpToALimit) {
  const RestartLimits limits{.max_failures = 100, .max_nodes_excluded = 2};
  const auto stuck = [&](const std::vector<std::string>& hosts) {
    Start();
    RunState state = State("failed", 3, "stuck: rank 2 ...", 4);
    state.suspect_hosts = hosts;
    return Judge({.launcher_code = 1, .state = state}, limits);
  };
  const StartEnd end = stuck({"n1.cluster.org", "elsewhere"});
  EXPECT_THAT(end.excluded, ElementsAre("n1"));
  EXPECT_EQ(end.action, StartAction::kRequeue);
  EXPECT_TRUE(end.failed);
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_THAT(stuck({"n1", "n2", "n3"}).excluded, ElementsAre("n2"));
  EXPECT_THAT(stuck({"n3"}).excluded, ElementsAre());
  EXPECT_THAT(ExcludedNodes(ledger_.submissions.back()), ElementsAre("n1", "n2"));
}

TEST_F(VerdictTest, ABadNodeIsLeftOutThoughNoStepWasDone) {
  Start().bad_nodes = BadNodes{.nodes = {"n2"}, .reason = "n2: slow"};
  const StartEnd end = Judge({.launcher_code = 3});
  EXPECT_EQ(end.action, StartAction::kRequeue);
  EXPECT_THAT(end.excluded, ElementsAre("n2"));
  EXPECT_THAT(end.reason, HasSubstr("slow"));
}

TEST_F(VerdictTest, AFinishedRunIsNotStarted) {
  Start();
  const RunState state = State("finished", 0, "all 100 steps are done", 100);
  for (const char* job : {"12", "99"}) {
    const auto why = WhyNotStart(ledger_, job, state, 100, kLimits);
    ASSERT_TRUE(why);
    EXPECT_EQ(why->action, StartAction::kDone);
  }
  EXPECT_FALSE(WhyNotStart(ledger_, "99", state, 200, kLimits)) << "it has more steps to do now";
}

}  // namespace
}  // namespace unipool
