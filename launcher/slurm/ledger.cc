// What the script of a submitted run asks before and after each start (submit_template.sh). It answers by
// its exit code: with --begin 0 (start) or kNothingToDo or kGivenUp; with --end kNothingToDo, kGivenUp,
// kLeftToSlurm or 75 (requeue). Words for people go to the standard error stream, nodes to leave out to the
// standard output.
#include <gflags/gflags.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "launcher/commands.h"
#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_holder.h"
#include "launcher/slurm/start_verdict.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"

DEFINE_bool(begin, false, "ledger: a start is about to begin; the exit code says whether it should");
DEFINE_int32(end, -1, "ledger: a start has ended, its launcher with this exit code");
DEFINE_string(heard, "", "ledger: the last signal that the script got");
DEFINE_int64(seconds_left, 0, "ledger: of the job's time");
DECLARE_int32(max_restarts);
DECLARE_int32(max_failures);
DECLARE_int32(max_nodes_excluded);
DECLARE_string(exclude);
DECLARE_string(chain);

namespace unipool {
namespace {

constexpr int kNothingToDo = 10, kGivenUp = 11, kLeftToSlurm = 12;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

LedgerStart ThisStart(const std::string& run_dir) {
  LedgerStart start{.job = Variable("SLURM_JOB_ID"),
                    .restart = std::atoi(Variable("SLURM_RESTART_COUNT").c_str()),
                    .time = std::time(nullptr),
                    .nodes = Variable("SLURM_JOB_NODELIST")};
  if (start.job.empty())
    throw UserError("ledger: SLURM_JOB_ID is not set; it is for scripts that Slurm runs");
  if (const auto state = ReadRunState(run_dir)) start.step = std::max<int64_t>(0, state->saved_step);
  return start;
}

RestartLimits Limits() {
  return {.max_restarts = FLAGS_max_restarts,
          .max_failures = FLAGS_max_failures,
          .max_nodes_excluded = FLAGS_max_nodes_excluded};
}

int ExitCodeOf(StartAction action) {
  switch (action) {
    case StartAction::kDone:
      return kNothingToDo;
    case StartAction::kRequeue:
      return kStoppedExitCode;
    case StartAction::kLeave:
      return kLeftToSlurm;
    case StartAction::kGiveUp:
      break;
  }
  return kGivenUp;
}

int Begin(const std::string& run_dir) {
  const Ledger ledger = ReadLedger(run_dir);
  const LedgerStart start = ThisStart(run_dir);
  const std::optional<RunState> state = ReadRunState(run_dir);
  const int64_t target = state ? state->target_steps : 0;
  if (const auto why = WhyNotStart(ledger, start.job, state, target, Limits())) {
    PrintErrorLine((why->action == StartAction::kDone ? "nothing to do: " : "not started: ") + why->reason);
    return ExitCodeOf(why->action);
  }
  bool is_known = false;
  if (!ledger.submissions.empty()) {
    for (const std::string& job : ledger.submissions.back().jobs) is_known = is_known || job == start.job;
  }
  if (!is_known)
    NoteSubmission(run_dir, {.jobs = {start.job}, .name = Variable("SLURM_JOB_NAME"), .chain = FLAGS_chain});
  NoteStart(run_dir, start);
  return 0;
}

// The step of a heartbeat that is younger than the start; 0: of another.
int64_t HeartbeatStep(const std::string& run_dir, const LedgerStart& start) {
  const auto heartbeat = ReadHeartbeat(run_dir);
  return heartbeat && heartbeat->time >= static_cast<double>(start.time) ? heartbeat->step : 0;
}

int End(const std::string& run_dir) {
  const Ledger ledger = ReadLedger(run_dir);
  const LedgerStart now = ThisStart(run_dir);
  const LedgerStart* start = nullptr;
  if (!ledger.submissions.empty() && !ledger.submissions.back().starts.empty())
    start = &ledger.submissions.back().starts.back();
  if (start && (start->job != now.job || start->restart != now.restart)) start = nullptr;
  if (!start)
    throw UserError("ledger: " + SubmitFolder(run_dir) + "/ledger.jsonl knows no start of job " + now.job);
  const StartEnd end = JudgeEnd(ledger, *start,
                                {.launcher_code = FLAGS_end,
                                 .heard = FLAGS_heard,
                                 .seconds_left = FLAGS_seconds_left,
                                 .state = ReadRunState(run_dir),
                                 .heartbeat_step = HeartbeatStep(run_dir, *start)},
                                Limits());
  NoteEnd(run_dir, *start, end);
  PrintErrorLine(Format("this start: exit code %d, %d steps; %s: %s", end.exit_code, end.steps,
                        NameOf(end.action), end.reason.c_str()));
  std::string nodes = FLAGS_exclude;
  bool has_more = false;
  for (const auto& list : {ExcludedNodes(ledger.submissions.back()), end.excluded}) {
    for (const std::string& node : list) {
      nodes += (nodes.empty() ? "" : ",") + node;
      has_more = true;
    }
  }
  if (has_more) std::printf("%s\n", nodes.c_str());
  return ExitCodeOf(end.action);
}

}  // namespace

int LedgerCommand(const CommandLine& command_line) {
  std::string run_dir = command_line.config_path;
  while (run_dir.size() > 1 && run_dir.back() == '/') run_dir.pop_back();
  if (FLAGS_begin == (FLAGS_end >= 0)) throw UserError("ledger: needs one of --begin and --end=CODE");
  return FLAGS_begin ? Begin(run_dir) : End(run_dir);
}

}  // namespace unipool
