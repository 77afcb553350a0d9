#include <gflags/gflags.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "launcher/commands.h"
#include "launcher/run_control/run_holder.h"
#include "launcher/run_control/run_state.h"
#include "launcher/slurm/child_process.h"
#include "launcher/slurm/slurm.h"
#include "launcher/slurm/start_ledger.h"
#include "runtime/errors.h"
#include "runtime/tensor_file.h"
#include "runtime/watchdog.h"

DEFINE_bool(now, false, "stop: do not wait for the step's end: cancel the job, or send SIGTERM");

namespace unipool {
namespace {

void Cancel(const QueuedJob& job) {
  const auto outcome = RunChild({"scancel", job.id});
  if (!outcome || outcome->exit_code != 0)
    throw UserError("scancel " + job.id + " failed: " + (outcome ? outcome->err : "it cannot be started"));
  std::printf("cancelled job %s (%s)\n", job.id.c_str(), job.state.c_str());
}

// The run's jobs that wait or run, of all submissions.
std::vector<QueuedJob> JobsOf(const std::string& run_dir) {
  std::vector<std::string> jobs;
  for (const Submission& submission : ReadLedger(run_dir).submissions)
    jobs.insert(jobs.end(), submission.jobs.begin(), submission.jobs.end());
  const auto queue = AskQueue(jobs);
  if (!queue && !jobs.empty())
    PrintErrorLine("note: squeue does not answer; jobs that wait stay in the queue");
  return queue.value_or(std::vector<QueuedJob>());
}

// SIGTERM to the run's first rank: it saves and stops, and with it the others.
void Terminate(const RunHolder& holder) {
  if (holder.pid == 0 || holder.host != HostName())
    throw UserError("stop --now: the run is on another host (" + Describe(holder) +
                    "); leave out --now, or send it SIGTERM");
  if (kill(static_cast<pid_t>(holder.pid), SIGTERM) != 0)
    throw UserError(Format("stop --now: process %d: %s", holder.pid, std::strerror(errno)));
  std::printf("sent SIGTERM to process %d\n", static_cast<int>(holder.pid));
}

}  // namespace

int StopCommand(const CommandLine& command_line) {
  std::string run_dir = command_line.config_path;
  while (run_dir.size() > 1 && run_dir.back() == '/') run_dir.pop_back();
  if (!std::filesystem::is_directory(run_dir)) throw UserError(run_dir + ": is no folder of a run");
  if (!ReadRunState(run_dir) && ReadLedger(run_dir).submissions.empty() && !HolderOf(run_dir)) {
    throw UserError(run_dir + ": is no folder of a run: it has neither state.json nor submit/ledger.jsonl");
  }
  bool has_job = false, runs = false;
  // What waits goes first: else it would begin when the running one ends.
  for (const QueuedJob& job : JobsOf(run_dir)) {
    has_job = true;
    if (job.state == "PENDING" || FLAGS_now)
      Cancel(job);
    else
      runs = true;
  }
  const std::optional<RunHolder> holder = HolderOf(run_dir);
  if (FLAGS_now) {
    if (!has_job && holder) Terminate(*holder);
  } else if (runs || holder) {
    WriteTextFile(run_dir + "/stop", "");
    std::printf("the run saves and stops at the end of its step; unipool status %s tells when\n",
                run_dir.c_str());
  }
  if (!has_job && !holder) std::printf("nothing runs or waits in %s\n", run_dir.c_str());
  return 0;
}

}  // namespace unipool
