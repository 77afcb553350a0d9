// What the script of a submitted run asks before and after each start (submit_template.sh). It answers by
// its exit code: with --begin 0 (start) or kNothingToDo or kGivenUp; with --end kNothingToDo, kGivenUp,
// kLeftToSlurm or 75 (requeue). Words for people go to the standard error stream. To the standard output
// --end writes nodes to leave out, "n1,n7", and behind them the jobs of a chain that wait, and --picked the
// nodes that the node test has picked, nothing where it did not pick.
#include <gflags/gflags.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "launcher/commands.h"
#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_holder.h"
#include "launcher/slurm/slurm_text.h"
#include "launcher/slurm/start_verdict.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"

DEFINE_bool(begin, false, "ledger: a start is about to begin; the exit code says whether it should");
DEFINE_int32(end, -1, "ledger: a start has ended, its launcher with this exit code");
DEFINE_bool(picked, false, "ledger: which nodes the node test of this start has picked");
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

// The job's log: what this process writes to goes there.
void TakeLog(LedgerStart& start) {
  struct stat info {};
  if (fstat(STDERR_FILENO, &info) != 0 || !S_ISREG(info.st_mode)) return;
  std::error_code ignored;
  start.log = std::filesystem::read_symlink("/proc/self/fd/2", ignored).string();
  start.log_offset = info.st_size;
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
  LedgerStart start = ThisStart(run_dir);
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
  TakeLog(start);
  NoteStart(run_dir, start);
  return 0;
}

// The step of a heartbeat that is younger than the start; 0: of another.
int64_t HeartbeatStep(const std::string& run_dir, const LedgerStart& start) {
  const auto heartbeat = ReadHeartbeat(run_dir);
  return heartbeat && heartbeat->time >= static_cast<double>(start.time) ? heartbeat->step : 0;
}

// The ledger's own, which --begin has written.
const LedgerStart& KnownStart(const Ledger& ledger, const std::string& run_dir) {
  const LedgerStart now = ThisStart(run_dir);
  if (!ledger.submissions.empty() && !ledger.submissions.back().starts.empty()) {
    const LedgerStart& start = ledger.submissions.back().starts.back();
    if (start.job == now.job && start.restart == now.restart) return start;
  }
  throw UserError("ledger: " + SubmitFolder(run_dir) + "/ledger.jsonl knows no start of job " + now.job);
}

int Picked(const std::string& run_dir) {
  const Ledger ledger = ReadLedger(run_dir);
  const auto& picked = KnownStart(ledger, run_dir).picked;
  if (picked) std::printf("%s\n", JoinNodes(picked->nodes).c_str());
  return 0;
}

// The jobs of a chain behind this one.
std::string LaterJobs(const Submission& submission, const std::string& job) {
  std::string text;
  const auto at = std::find(submission.jobs.begin(), submission.jobs.end(), job);
  if (at == submission.jobs.end()) return "";
  for (auto later = at + 1; later != submission.jobs.end(); ++later) text += " " + *later;
  return text;
}

int End(const std::string& run_dir) {
  const Ledger ledger = ReadLedger(run_dir);
  const LedgerStart* start = &KnownStart(ledger, run_dir);
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
  if (has_more)
    std::printf("%s%s\n", nodes.c_str(), LaterJobs(ledger.submissions.back(), start->job).c_str());
  return ExitCodeOf(end.action);
}

}  // namespace

int LedgerCommand(const CommandLine& command_line) {
  std::string run_dir = command_line.config_path;
  while (run_dir.size() > 1 && run_dir.back() == '/') run_dir.pop_back();
  if (FLAGS_begin + FLAGS_picked + (FLAGS_end >= 0) != 1)
    throw UserError("ledger: needs one of --begin, --picked and --end=CODE");
  if (FLAGS_picked) return Picked(run_dir);
  return FLAGS_begin ? Begin(run_dir) : End(run_dir);
}

}  // namespace unipool
