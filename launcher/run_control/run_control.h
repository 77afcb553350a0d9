// What a training run hears from outside and lets others know beside its checkpoints: requests to save or to
// stop, the lock of its folder, state.json and the heartbeat.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "configs/config.pb.h"
#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_lock.h"
#include "launcher/run_control/run_request.h"
#include "launcher/run_control/run_state.h"
#include "launcher/run_control/signal_requests.h"
#include "runtime/world.h"

namespace unipool {

// What the ranks of one process share; made before the world and destroyed after it.
struct RunProcess {
  SignalRequests signals;
  RunStateKeeper state;
  std::unique_ptr<RunLock> lock;  // in rank 0's process
  bool anew = false;              // the run begins with step 0, whatever its folder holds
};

// One on each rank.
class RunControl {
 public:
  // REQUIRES: the process outlives the control; train.stop_at is valid.
  RunControl(const Config& config, World& world, RunProcess& process);

  // Whether state.json says that all train.steps are done, and their checkpoint is there: then there is
  // nothing to do, and nothing is touched. A word for people, the same on every rank, or "". Collective.
  std::string WhyFinished();
  // Whether the run begins with step 0, and moves what its folder holds aside.
  bool anew() const { return process_.anew; }
  // Takes the lock of run_dir on rank 0, where a requeued job waits for a while. Collective. Throws the same
  // UserError on every rank.
  void TakeLock();
  // Throws UserError where train.stop_at has passed, or where state.json knows a checkpoint and run_dir holds
  // none: a disk that is not there, or a folder that was removed. Collective.
  void CheckMayStart();
  // From here on state.json is this start's. Only the first call counts. Collective.
  void Begin();
  // The start is made: from the checkpoint of `step`, or anew from step 0.
  void Started(int64_t step, bool is_continued);
  // "" or that the start before was killed, with what would have saved its steps. For rank 0, after Begin.
  std::string HowTheLastWasLost() const;

  // What this rank is asked now. A save is told once, a stop again and again.
  RunRequests Poll();
  // The sum of Poll over the ranks, and removes the trigger files that it answers. Collective.
  RunRequests Agree();
  // The same for requests that are summed already, because they travelled with another exchange.
  void Answer(const RunRequests& requests);

  void StepDone(int64_t step, double seconds, double tokens_per_second);
  void Saved(int64_t step, double seconds);
  // The run ends on all ranks alike. Collective, so that no rank leaves before it is written.
  void End(const std::string& status, const JobEnd& end);

 private:
  // What a second TERM or INT will leave in state.json.
  void PrepareLastWords();
  // Whether the time that is left is too short for another step and a save.
  bool StopTimeComes() const;
  bool Exists(const char* trigger) const;

  const Config& config_;
  World& world_;
  RunProcess& process_;
  const bool speaks_for_process_;  // one rank of each process
  const std::optional<std::chrono::system_clock::time_point> stop_at_;
  std::unique_ptr<Heartbeat> heartbeat_;  // on rank 0
  std::chrono::steady_clock::time_point last_look_{}, last_save_ = std::chrono::steady_clock::now();
};
}  // namespace unipool
