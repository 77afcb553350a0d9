#include "launcher/slurm/start_verdict.h"

#include <algorithm>

#include "launcher/nearest_name.h"
#include "launcher/slurm/slurm_text.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr int kBySignal = 128;
constexpr int kKill = 9, kUsr2 = 12, kTerm = 15;
constexpr int64_t kNearTheLimit = 60;  // seconds: Slurm's TERM so near the limit is that of the limit

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// Failed starts at the end of a submission, without one after another's end.
int FailuresInARow(const Submission& submission) {
  int count = 0;
  for (auto start = submission.starts.rbegin(); start != submission.starts.rend(); ++start) {
    if (!start->end) continue;  // this one, or one that Slurm ended
    if (!start->end->failed) break;
    ++count;
  }
  return count;
}

int StartsWithoutStep(const Submission& submission) {
  int count = 0;
  for (auto start = submission.starts.rbegin(); start != submission.starts.rend(); ++start) {
    if (!start->end || start->end->action == StartAction::kLeave) continue;
    if (start->end->steps > 0) break;
    ++count;
  }
  return count;
}

class Judge {
 public:
  Judge(const Ledger& ledger, const LedgerStart& start, const StartOutcome& outcome,
        const RestartLimits& limits)
      : submission_(ledger.submissions.back()), start_(start), outcome_(outcome), limits_(limits) {
    if (outcome.state && IsOf(*outcome.state, start)) own_ = &*outcome.state;
  }

  StartEnd Run() {
    CountSteps();
    end_.exit_code = outcome_.launcher_code;
    if (own_ && own_->end.exit_code) end_.exit_code = *own_->end.exit_code;
    if (own_) end_.reason = own_->end.reason;
    if (!own_ && outcome_.state && outcome_.state->end.status == "finished" && outcome_.launcher_code == 0)
      return With(StartAction::kDone, outcome_.state->end.reason);  // it had nothing to do
    if (own_ && own_->end.status == "finished") return With(StartAction::kDone, own_->end.reason);
    if (end_.exit_code == kUserErrorExitCode) return With(StartAction::kGiveUp, OrLog("wrong input"), true);
    if (end_.exit_code == kNotSavedExitCode)
      return With(StartAction::kGiveUp, OrLog("a checkpoint could not be written"), true);
    if (own_ && end_.exit_code == kStoppedExitCode) return Stopped();
    if (WasEndedBeforeItBegan()) {
      const std::string why = "ended by " + outcome_.heard + " before the program could hear it";
      return outcome_.heard == "TERM" && !IsNearLimit() ? With(StartAction::kLeave, why) : Again(why);
    }
    if (WasEndedBySlurm())
      return IsNearLimit() ? Again(end_.reason)
                           : With(StartAction::kLeave, end_.reason + ": Slurm took the nodes away");
    return Failed();
  }

 private:
  StartEnd With(StartAction action, const std::string& reason, bool failed = false) {
    end_.action = action;
    end_.reason = reason;
    end_.failed = failed;
    return end_;
  }

  std::string OrLog(const std::string& what) const {
    return own_ && !end_.reason.empty() ? end_.reason : what + "; the log says which";
  }

  bool IsNearLimit() const { return outcome_.seconds_left <= kNearTheLimit; }

  void CountSteps() {
    end_.step = start_.step;
    if (own_) end_.step = std::max(end_.step, own_->end.step);
    end_.step = std::max(end_.step, outcome_.heartbeat_step);
    end_.steps = end_.step - start_.step;
  }

  // A save and stop that somebody asked for.
  StartEnd Stopped() {
    if (end_.reason.find("the file stop") != std::string::npos)
      return With(StartAction::kGiveUp, end_.reason + ": somebody wanted it so; submit again to go on");
    if (outcome_.heard == "TERM" && !IsNearLimit())
      return With(StartAction::kLeave, end_.reason + ": Slurm takes the nodes away");
    return Again(end_.reason);
  }

  // The signal came while the ranks started, or the start ended by it without a word.
  bool WasEndedBeforeItBegan() const {
    if (outcome_.heard.empty() || outcome_.launcher_code == kStuckExitCode) return false;
    return !own_ || own_->end.status == "running" || outcome_.launcher_code == kBySignal + kUsr2;
  }

  // Slurm took the nodes away, and the ranks were gone before they had saved.
  bool WasEndedBySlurm() const {
    return outcome_.heard == "TERM" &&
           (end_.exit_code == kBySignal + kTerm || end_.exit_code == kBySignal + kKill);
  }

  // A start that did not fail is followed by another, within limits.
  StartEnd Again(const std::string& reason) {
    if (end_.steps == 0 && StartsWithoutStep(submission_) + 1 >= limits_.max_starts_without_step) {
      return With(StartAction::kGiveUp,
                  Format("%s; %d starts in a row completed no step: give more --time, or a smaller --lead",
                         reason.c_str(), limits_.max_starts_without_step));
    }
    return WithinRestarts(reason);
  }

  StartEnd WithinRestarts(const std::string& reason) {
    const auto restarts = static_cast<int>(submission_.starts.size()) - 1;
    if (restarts >= limits_.max_restarts) {
      return With(
          StartAction::kGiveUp,
          Format("%s; there were %d restarts, as many as --max_restarts allows", reason.c_str(), restarts),
          end_.failed);
    }
    return With(StartAction::kRequeue, reason, end_.failed);
  }

  StartEnd Failed() {
    end_.failed = true;
    std::vector<std::string> hosts;
    if (own_) hosts = own_->suspect_hosts;
    if (start_.bad_nodes) {
      hosts.insert(hosts.end(), start_.bad_nodes->nodes.begin(), start_.bad_nodes->nodes.end());
      end_.reason = "the node test failed: " + start_.bad_nodes->reason;
      end_.exit_code = kStuckExitCode;
    }
    Exclude(NodesOfHosts(start_.nodes, hosts));
    const bool has_end = own_ && own_->end.status != "running";
    if (end_.reason.empty() || (!has_end && !start_.bad_nodes)) {
      end_.reason = Format("ended without a word (the launcher's exit code is %d)", outcome_.launcher_code);
      if (end_.exit_code == 0) end_.exit_code = 1;
    }
    const int failures = FailuresInARow(submission_) + 1;
    if (failures >= limits_.max_failures) {
      return With(StartAction::kGiveUp,
                  Format("%s; failure %d in a row, and --max_failures is %d", end_.reason.c_str(), failures,
                         limits_.max_failures),
                  true);
    }
    // The program's own crash would come again. Ranks that were never started are Slurm's fault or a node's.
    const bool is_nodes_fault = end_.exit_code == kStuckExitCode || !own_;
    if (end_.steps == 0 && !is_nodes_fault)
      return With(StartAction::kGiveUp, end_.reason + "; it completed no step, so it would fail again", true);
    return WithinRestarts(end_.reason);
  }

  void Exclude(const std::vector<std::string>& nodes) {
    const std::vector<std::string> before = ExcludedNodes(submission_);
    for (const std::string& node : nodes) {
      if (Contains(before, node) || Contains(end_.excluded, node)) continue;
      if (static_cast<int>(before.size() + end_.excluded.size()) < limits_.max_nodes_excluded)
        end_.excluded.push_back(node);
    }
  }

  const Submission& submission_;
  const LedgerStart& start_;
  const StartOutcome& outcome_;
  const RestartLimits& limits_;
  const RunState* own_ = nullptr;  // of this start, else null
  StartEnd end_;
};

}  // namespace

bool IsOf(const RunState& state, const LedgerStart& start) {
  return state.job_id == start.job && state.restart_count == start.restart &&
         state.started + 1 >= static_cast<double>(start.time);
}

std::optional<StartEnd> WhyNotStart(const Ledger& ledger, const std::string& job,
                                    const std::optional<RunState>& state, int64_t target_steps,
                                    const RestartLimits& limits) {
  if (state && state->end.status == "finished" && state->end.step >= target_steps) {
    return StartEnd{.action = StartAction::kDone,
                    .reason = state->end.reason + "; raise train.steps to go on",
                    .step = state->end.step};
  }
  if (ledger.submissions.empty() || !Contains(ledger.submissions.back().jobs, job)) return std::nullopt;
  const Submission& submission = ledger.submissions.back();
  if (submission.starts.empty()) return std::nullopt;
  const std::optional<StartEnd>& last = submission.starts.back().end;
  if (last && last->action == StartAction::kGiveUp) return *last;
  const auto restarts = static_cast<int>(submission.starts.size());
  if (restarts > limits.max_restarts) {
    return StartEnd{
        .action = StartAction::kGiveUp,
        .reason = Format("this is restart %d, and --max_restarts is %d", restarts, limits.max_restarts)};
  }
  return std::nullopt;
}

StartEnd JudgeEnd(const Ledger& ledger, const LedgerStart& start, const StartOutcome& outcome,
                  const RestartLimits& limits) {
  CHECK(!ledger.submissions.empty()) << "no start was noted";
  return Judge(ledger, start, outcome, limits).Run();
}

std::vector<std::string> ExcludedNodes(const Submission& submission) {
  std::vector<std::string> nodes;
  for (const LedgerStart& start : submission.starts) {
    if (!start.end) continue;
    for (const std::string& node : start.end->excluded) {
      if (!Contains(nodes, node)) nodes.push_back(node);
    }
  }
  return nodes;
}

}  // namespace unipool
