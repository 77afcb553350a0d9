#include "launcher/run_control/run_control.h"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/resume_effect.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/config.h"
#include "launcher/run_control/stop_time.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLookEvery{1};  // at the trigger files
constexpr const char* kSaveTrigger = "save";
constexpr const char* kStopTrigger = "stop";
constexpr double kMargin = 1.2;  // of the time that the next step and save may take
constexpr std::chrono::milliseconds kLeastHeartbeatPatience{30'000};

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Longest(const std::optional<Quantiles>& quantiles) {
  return quantiles ? quantiles->max : 0;
}

// A run that lives lets its heart beat at least as often as it gets a step and a save done.
RunLockOptions LockOptions(const Config& config, const SignalRequests& signals) {
  RunLockOptions options{.wait = LockWaitOfThisStart(), .heartbeat_patience = kLeastHeartbeatPatience};
  if (const std::optional<RunState> state = ReadRunState(config.run_dir())) {
    const double longest = 2 * (Longest(state->step_seconds) + Longest(state->save_seconds));
    const auto needed = std::chrono::milliseconds(static_cast<int64_t>(1000 * std::min(longest, 3600.0)));
    options.heartbeat_patience = std::max(options.heartbeat_patience, needed);
  }
  options.say = PrintErrorLine;
  options.give_up = [&signals] { return signals.StopAsked(); };
  return options;
}

// Whether all files of a checkpoint are there, with their sizes. What they hold is read by those who use it.
bool IsThere(const std::string& dir) {
  try {
    for (const auto& [name, sum] : ReadSavedState(dir).files) {
      if (static_cast<int64_t>(fs::file_size(fs::path(dir) / name)) != sum.bytes) return false;
    }
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

// Whether the run's folder was last written with these settings, on whatever ranks.
bool HasSettings(const Config& config) {
  try {
    Config before = SettingsOf(ReadTextFile(config.run_dir() + "/config.txtpb"), Config());
    Config now = config;
    before.clear_parallel();
    now.clear_parallel();
    return ResolvedConfigText(before) == ResolvedConfigText(now);
  } catch (const std::exception&) {
    return false;
  }
}

void RemoveTrigger(const std::string& run_dir, const char* name) {
  std::error_code error;
  const fs::path path = fs::path(run_dir) / name;
  fs::remove(path, error);
  if (error)
    PrintErrorLine("warning: " + path.string() + ": cannot be removed (" + error.message() +
                   "); it will be obeyed again");
}

}  // namespace

RunControl::RunControl(const Config& config, World& world, RunProcess& process)
    : config_(config),
      world_(world),
      process_(process),
      speaks_for_process_(world.is_mpi || world.rank() == 0),
      stop_at_(ParseStopTime(config.train().stop_at(), std::chrono::system_clock::now())) {}

std::string RunControl::WhyFinished() {
  std::string words;
  if (world_.rank() == 0) {
    const std::optional<RunState> state = ReadRunState(config_.run_dir());
    const int64_t steps = config_.train().steps();
    // With other settings the start reads the checkpoint, and tells what does not fit.
    if (state && state->end.status == "finished" && HasSettings(config_) && state->end.step >= steps &&
        state->saved_step == state->end.step &&
        IsThere(CheckpointPath(config_.run_dir(), state->saved_step))) {
      words = Format("the run in %s has done its %d steps; raise train.steps to go on",
                     config_.run_dir().c_str(), steps);
    }
  }
  return world_.communicator->AllGatherText(words, {.operation = "look whether the run is finished"})[0];
}

void RunControl::CheckMayStart() {
  RunTogether(*world_.communicator, [&] {
    if (world_.rank() != 0) return;
    if (stop_at_ && *stop_at_ <= std::chrono::system_clock::now()) {
      throw UserError(
          Format("train.stop_at=%s: has passed (%s); give a later time or a duration, such as 3h30m",
                 config_.train().stop_at().c_str(), WallTimeText(*stop_at_).c_str()));
    }
    if (anew()) return;
    const std::optional<RunState> state = ReadRunState(config_.run_dir());
    if (!state || state->saved_step <= 0 || !ListCheckpoints(config_.run_dir()).empty()) return;
    throw UserError(Format(
        "%s: state.json knows a checkpoint of step %d, but the folder checkpoints holds none; bring it back "
        "(is its disk mounted?), choose another run_dir, or start anew with --anew",
        config_.run_dir().c_str(), state->saved_step));
  });
}

void RunControl::TakeLock() {
  RunTogether(
      *world_.communicator,
      [&] {
        if (world_.rank() != 0) return;
        process_.lock = std::make_unique<RunLock>(config_.run_dir(), LockOptions(config_, process_.signals));
      },
      "takes the lock of run_dir");
}

void RunControl::Begin() {
  RunTogether(
      *world_.communicator,
      [&] {
        if (!speaks_for_process_ || process_.state.has_begun()) return;
        process_.state.Begin({.run_dir = config_.run_dir(),
                              .target_steps = config_.train().steps(),
                              .writes = world_.rank() == 0,
                              .hosts = world_.hosts});
        if (world_.rank() == 0) heartbeat_ = std::make_unique<Heartbeat>(config_.run_dir());
      },
      "writes state.json");
}

void RunControl::Started(int64_t step, bool is_continued) {
  if (speaks_for_process_) process_.state.SetStart(step, is_continued);
  if (heartbeat_) heartbeat_->Beat(step, 0);
  last_save_ = Clock::now();
  PrepareLastWords();
}

std::string RunControl::HowTheLastWasLost() const {
  const std::optional<RunEnd> last = process_.state.state().previous_end;
  if (!speaks_for_process_ || !last || last->status != "running") return "";
  return "the start before was killed, without a save" +
         std::string(world_.is_mpi ? ": Ctrl-C and TERM make mpirun kill its ranks" : "") +
         "; `unipool stop " + config_.run_dir() + "` saves and stops";
}

RunRequests RunControl::Poll() {
  RunRequests requests;
  if (speaks_for_process_) process_.signals.AddTo(requests);
  if (world_.rank() != 0) return requests;
  if (last_look_ == Clock::time_point{} || Clock::now() - last_look_ >= kLookEvery) {
    last_look_ = Clock::now();
    if (Exists(kSaveTrigger)) requests.Add(RunRequest::kSaveFile);
    if (Exists(kStopTrigger)) requests.Add(RunRequest::kStopFile);
  }
  if (StopTimeComes()) requests.Add(RunRequest::kStopTime);
  const double minutes = config_.train().save_minutes();
  if (minutes > 0 && SecondsSince(last_save_) >= 60 * minutes) requests.Add(RunRequest::kSaveTime);
  return requests;
}

RunRequests RunControl::Agree() {
  RunRequests requests = Poll();
  world_.communicator->AllReduceSum(Tensor(requests.count.data(), DType::kF64, {kNumRunRequests}),
                                    {.operation = "agree on requests"});
  Answer(requests);
  return requests;
}

void RunControl::Answer(const RunRequests& requests) {
  if (world_.rank() != 0) return;
  if (requests.Has(RunRequest::kSaveFile)) RemoveTrigger(config_.run_dir(), kSaveTrigger);
  if (requests.Has(RunRequest::kStopFile)) RemoveTrigger(config_.run_dir(), kStopTrigger);
}

bool RunControl::StopTimeComes() const {
  if (!stop_at_) return false;
  const RunState state = process_.state.state();
  const double needed = kMargin * (Longest(state.step_seconds) + Longest(state.save_seconds));
  return std::chrono::duration<double>(*stop_at_ - std::chrono::system_clock::now()).count() < needed;
}

bool RunControl::Exists(const char* trigger) const {
  struct stat info {};
  return lstat((config_.run_dir() + "/" + trigger).c_str(), &info) == 0;
}

void RunControl::StepDone(int64_t step, double seconds, double tokens_per_second) {
  if (speaks_for_process_) process_.state.StepDone(step, seconds);
  if (heartbeat_) heartbeat_->Beat(step, tokens_per_second);
}

void RunControl::Saved(int64_t step, double seconds) {
  if (speaks_for_process_) process_.state.Saved(step, seconds);
  last_save_ = Clock::now();
  PrepareLastWords();
}

void RunControl::PrepareLastWords() {
  if (world_.rank() != 0) return;
  const JobEnd end{.exit_code = 128 + SIGTERM, .reason = "ended at once by a second SIGTERM or SIGINT"};
  process_.signals.SetLastWords(process_.state.path(), process_.state.TextWithEnd("failed", end));
}

void RunControl::End(const std::string& status, const JobEnd& end) {
  RunTogether(
      *world_.communicator,
      [&] {
        if (world_.rank() == 0) process_.state.End(status, end);
        if (heartbeat_) heartbeat_->BeatAtOnce(process_.state.state().end.step, 0);
      },
      "writes state.json");
}

}  // namespace unipool
