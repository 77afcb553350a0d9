// RUN_DIR/state.json: how a run stands and how its last start ended, for scripts and people. Written to
// another name and renamed, so that a reader always sees a whole one. One JSON object:
//
//   status            "running" (killed, if nothing runs), "finished", "stopped" (early) or "failed"
//   reason            of the end, a sentence; "" while it runs
//   exit_code         of the end; null while it runs
//   step              updates done
//   target_steps      train.steps
//   steps_this_start  updates done since the last start
//   saved_step        of the newest checkpoint that this start made or began from; -1: none
//   hosts, ranks      where it runs, on how many ranks
//   suspect_hosts     of ranks that gave the watchdog no sign of life
//   job_id            SLURM_JOB_ID; null without
//   restart_count     SLURM_RESTART_COUNT; 0 without
//   pid, version      of the process that writes, of the program
//   started, updated  seconds since 1970
//   step_seconds      {median, p90, max} of the last 256 steps; null before the first
//   save_seconds      the same of saves
//   previous_end      {status, reason, exit_code, step} of the start before; null if this is the first
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/watchdog.h"

namespace unipool {

struct Quantiles {
  double median = 0, p90 = 0, max = 0;
};

// The last durations of something that is done again and again.
class RecentSeconds {
 public:
  void Add(double seconds);
  std::optional<Quantiles> quantiles() const;  // nothing before the first

 private:
  std::deque<double> seconds_;
};

struct RunEnd {
  std::string status = "running", reason;
  std::optional<int> exit_code;
  int64_t step = 0;
};

// What state.json says.
struct RunState {
  RunEnd end;  // its step: of the newest update
  int64_t target_steps = 0, steps_this_start = 0, saved_step = -1;
  std::vector<std::string> hosts, suspect_hosts;  // each once
  int ranks = 0;
  std::string job_id;  // "": none
  int restart_count = 0;
  int64_t pid = 0;
  double started = 0, updated = 0;
  std::optional<Quantiles> step_seconds, save_seconds;
  std::optional<RunEnd> previous_end;
};
std::string RunStateText(const RunState& state);
// What RUN_DIR/state.json says; nothing when there is none, or one that is no state (it is written anew).
std::optional<RunState> ReadRunState(const std::string& run_dir);

// The run's state as the processes of a job keep it: each has one, and one of them writes it in ordinary
// times; whichever ends the job writes the end. Its functions may be called by any thread.
class RunStateKeeper {
 public:
  struct Start {
    std::string run_dir;
    int64_t step = 0, target_steps = 0;
    bool is_continued = false;       // from the checkpoint of `step`
    bool writes = false;             // this process does, in ordinary times
    std::vector<std::string> hosts;  // of each rank
  };

  // From here on the folder's file is this start's: status running. What the file says of the start before
  // becomes previous_end; save times of before are kept as long as there are none of this start. Until then
  // nothing is written.
  void Begin(const Start& start);
  void SetStart(int64_t step, bool is_continued);  // when it is known
  void StepDone(int64_t step, double seconds);     // written with the next save or end
  void Saved(int64_t step, double seconds);
  // Written by any process, so that whoever ends the job can say so. Of several failures the first counts.
  void End(const std::string& status, const JobEnd& end);

  RunState state() const;
  // What Begin has or would have written, with another end: for SignalRequests::SetLastWords.
  std::string TextWithEnd(const std::string& status, const JobEnd& end) const;
  bool has_begun() const;
  std::string path() const;

 private:
  bool HasEndOfAnother() const;  // another process of this start has told why it failed
  void Write();                  // a failure is a warning, once: the run matters more

  mutable std::recursive_mutex mutex_;
  std::string run_dir_;
  bool writes_ = false, has_warned_ = false;
  RunState state_;
  RecentSeconds steps_, saves_;
};

}  // namespace unipool
