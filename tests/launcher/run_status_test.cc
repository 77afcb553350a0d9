#include "launcher/slurm/run_status.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace unipool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

StatusInput Input() {
  StatusInput input{.run_dir = "runs/a", .now = 2000};
  input.state = RunState{.target_steps = 100, .saved_step = 40, .job_id = "12"};
  input.state->end.step = 40;
  input.state->step_seconds = Quantiles{.median = 2, .p90 = 2, .max = 3};
  input.heartbeat = HeartbeatView{.step = 50, .time = 1997, .tokens_per_second = 51200};
  input.waits = RunWaits{.step = 49, .step_ms = 200, .blocked_ms = 30};
  input.holder = RunHolder{.host = "n0", .job_id = "12", .pid = 7};
  Submission submission{.jobs = {"12"}, .time = 1000};
  submission.starts.push_back({.job = "12", .restart = 0, .time = 1000, .nodes = "n[0-1]"});
  submission.starts[0].end = StartEnd{.exit_code = 3,
                                      .action = StartAction::kRequeue,
                                      .failed = true,
                                      .reason = "stuck: rank 2",
                                      .step = 20,
                                      .steps = 20,
                                      .excluded = {"n1"}};
  submission.starts.push_back(
      {.job = "12", .restart = 1, .time = 1200, .step = 20, .nodes = "n[0,2]", .was_terminated = true});
  submission.starts.push_back({.job = "12", .restart = 2, .time = 1500, .step = 40, .nodes = "n[0,2]"});
  input.ledger.submissions.push_back(submission);
  input.queue = {{{.id = "12", .state = "RUNNING", .elapsed = "8:20", .left = "51:40", .nodes = "n[0,2]"}}};
  return input;
}

TEST(StatusText, TellsHowItStandsAndWhatHappened) {
  EXPECT_THAT(StatusText(Input()),
              AllOf(HasSubstr("running, step 50 of 100, 1m40s of work left"),
                    HasSubstr("51.2K tokens/s; last step 3s ago"),
                    HasSubstr("ranks wait  15 % of step 49: 30.0 ms\n"), HasSubstr("step 40\n"),
                    HasSubstr("job 12 RUNNING on n[0,2] for 8:20, 51:40 left"),
                    HasSubstr("exit code 3, requeue: stuck: rank 2 (leaves out n1)"),
                    HasSubstr("killed after a warning"), HasSubstr("left out    n1"), HasSubstr("job 12.2")));
}

TEST(StatusText, TellsSpareNodesAndWhy) {
  StatusInput input = Input();
  input.ledger.submissions[0].starts[2].picked =
      PickedNodes{.nodes = {"n0"}, .spare = {"n2"}, .reason = "n2: memory is slow"};
  input.ledger.submissions[0].starts[2].log = "runs/logs/12.out";
  EXPECT_THAT(StatusText(input), AllOf(HasSubstr("n[0,2], spare n2 (n2: memory is slow)"),
                                       HasSubstr("log         runs/logs/12.out")));
  EXPECT_EQ(StatusJson(input)["starts"][2]["spare"][0], "n2");
}

TEST(StatusText, OfARunWithoutSlurm) {
  StatusInput input = Input();
  input.ledger = {};
  input.queue.emplace();
  input.holder.reset();
  input.state->end = {
      .status = "stopped", .reason = "stopped by SIGINT at step 40", .exit_code = 75, .step = 40};
  EXPECT_THAT(StatusText(input), AllOf(HasSubstr("stopped, step 40 of 100"),
                                       HasSubstr("stopped by SIGINT at step 40, exit code 75"),
                                       Not(HasSubstr("queue")), Not(HasSubstr("tokens/s"))));
}

TEST(StatusText, AKilledRunAndASilentSlurm) {
  StatusInput input = Input();
  input.holder.reset();
  input.queue.reset();
  input.job_states["12"] = "NODE_FAIL";
  EXPECT_THAT(StatusText(input),
              AllOf(HasSubstr("killed, no end was written"), HasSubstr("squeue does not answer"),
                    HasSubstr("killed without a warning"), HasSubstr("Slurm says NODE_FAIL")));
}

TEST(StatusJson, HasTheSame) {
  const nlohmann::json json = StatusJson(Input());
  EXPECT_EQ(json["step"], 50);
  EXPECT_EQ(json["starts"].size(), 3U);
  EXPECT_EQ(json["starts"][0]["exit_code"], 3);
  EXPECT_EQ(json["starts"][2]["reason"], "running");
  EXPECT_EQ(json["excluded"][0], "n1");
  EXPECT_EQ(json["queue"][0]["state"], "RUNNING");
  EXPECT_EQ(json["ranks_wait"]["blocked_ms"], 30);
  EXPECT_DOUBLE_EQ(json["heartbeat_age"].get<double>(), 3);
}

}  // namespace
}  // namespace unipool
