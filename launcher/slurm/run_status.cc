#include "launcher/slurm/run_status.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/nearest_name.h"
#include "launcher/reports/readable_number.h"
#include "launcher/run_control/stop_time.h"
#include "launcher/slurm/start_verdict.h"
#include "runtime/format.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostStarts = 20;  // of the table

std::string TimeText(int64_t seconds) {
  return WallTimeText(std::chrono::system_clock::from_time_t(seconds));
}

int64_t StepOf(const StatusInput& input) {
  const int64_t step = input.state ? input.state->end.step : 0;
  return input.heartbeat && input.holder ? std::max(step, input.heartbeat->step) : step;
}

const Submission* Last(const StatusInput& input) {
  return input.ledger.submissions.empty() ? nullptr : &input.ledger.submissions.back();
}

// Whether this start is the one that runs.
bool Runs(const StatusInput& input, const Submission& submission, const LedgerStart& start) {
  if (start.end || !input.queue || &start != &submission.starts.back()) return false;
  return std::any_of(input.queue->begin(), input.queue->end(), [&](const QueuedJob& job) {
    return job.id == start.job &&
           (job.state == "RUNNING" || job.state == "COMPLETING" || job.state == "SUSPENDED");
  });
}

std::string WordOf(const StatusInput& input) {
  if (input.holder) return "running";
  if (!input.state) return "not started";
  return input.state->end.status == "running" ? "killed, no end was written" : input.state->end.status;
}

double SecondsLeft(const StatusInput& input) {
  if (!input.state || !input.state->step_seconds) return -1;
  return static_cast<double>(input.state->target_steps - StepOf(input)) * input.state->step_seconds->median;
}

std::string JobLine(const QueuedJob& job) {
  if (job.state == "PENDING") {
    const bool has_start = !job.start.empty() && job.start != "N/A";
    return Format("job %s waits %s%s", job.id, job.reason, has_start ? ", from " + job.start + " on" : "");
  }
  return Format("job %s %s on %s for %s, %s left", job.id, job.state, job.nodes, job.elapsed, job.left);
}

std::string JobStateOf(const StatusInput& input, const std::string& job) {
  const auto found = input.job_states.find(job);
  return found == input.job_states.end() ? "" : found->second;
}

// What became of a start: "stopped, requeue: REASON".
std::string EndText(const StatusInput& input, const Submission& submission, const LedgerStart& start) {
  if (Runs(input, submission, start)) return "running";
  if (!start.end)
    return WhyWithoutEnd(start, &start == &submission.starts.back() ? JobStateOf(input, start.job) : "");
  std::string text =
      Format("exit code %d, %s: %s", start.end->exit_code, NameOf(start.end->action), start.end->reason);
  if (!start.end->excluded.empty()) text += " (leaves out " + JoinNames(start.end->excluded) + ")";
  return text;
}

// "n[0-2], spare n2 (why)"
std::string NodesText(const LedgerStart& start) {
  if (!start.picked) return start.nodes;
  const std::string why = start.picked->reason.empty() ? "" : " (" + start.picked->reason + ")";
  return start.nodes + ", spare " + JoinNames(start.picked->spare) + why;
}

std::string StartsText(const StatusInput& input, const Submission& submission) {
  const size_t count = submission.starts.size();
  std::string text = Format("starts      %d since %s%s\n", count, TimeText(submission.time),
                            count > kMostStarts ? Format(", the last %d:", kMostStarts) : ":");
  for (size_t i = count > kMostStarts ? count - kMostStarts : 0; i < count; ++i) {
    const LedgerStart& start = submission.starts[i];
    const std::string last = start.end ? std::to_string(start.end->step) : "?";
    text += Format("  %s  job %s.%d  %s  step %d to %s  %s\n", TimeText(start.time), start.job, start.restart,
                   NodesText(start), start.step, last, EndText(input, submission, start));
  }
  return text;
}

}  // namespace

std::string WhyWithoutEnd(const LedgerStart& start, const std::string& job_state) {
  std::string text = start.was_terminated ? "killed after a warning: preempted, requeued or cancelled"
                                          : "killed without a warning: a node failed, or the time was over";
  if (!job_state.empty() && job_state != "RUNNING" && job_state != "PENDING")
    text += "; Slurm says " + job_state;
  return text;
}

std::string StatusText(const StatusInput& input) {
  std::string text = Format("run         %s: %s", input.run_dir, WordOf(input));
  if (input.state) {
    text += Format(", step %d of %d", StepOf(input), input.state->target_steps);
    const double left = SecondsLeft(input);
    if (left > 0) text += Format(", %s of work left", FormatDuration(left));
  }
  text += "\n";
  if (input.heartbeat && input.holder) {
    text += Format("rate        %s tokens/s; last step %s ago\n",
                   FormatCount(static_cast<int64_t>(input.heartbeat->tokens_per_second)),
                   FormatDuration(input.now - input.heartbeat->time));
  }
  if (input.waits) text += "ranks wait  " + RunWaitsText(*input.waits) + "\n";
  if (input.holder) text += "runs as     " + Describe(*input.holder) + "\n";
  if (input.state) {
    const std::string saved =
        input.state->saved_step < 0 ? "none yet" : Format("step %d", input.state->saved_step);
    text += "checkpoint  " + saved + "\n";
    const std::optional<RunEnd>& before = input.state->previous_end;
    const bool is_over = input.state->end.exit_code.has_value();
    if (is_over)
      text += Format("last end    %s, exit code %d\n", input.state->end.reason, *input.state->end.exit_code);
    else if (before)
      text += Format("last end    %s (step %d)\n", before->reason, before->step);
  }
  const Submission* submission = Last(input);
  if (!input.queue) {
    text += "queue       squeue does not answer\n";
  } else if (input.queue->empty()) {
    if (submission) text += "queue       none of its jobs waits or runs\n";
  } else {
    for (const QueuedJob& job : *input.queue) text += "queue       " + JobLine(job) + "\n";
  }
  if (!submission) return text;
  text += StartsText(input, *submission);
  const std::vector<std::string> excluded = ExcludedNodes(*submission);
  if (!excluded.empty()) text += "left out    " + JoinNames(excluded) + "\n";
  if (!submission->starts.empty())
    text += "log         " + LogOf(input.run_dir, submission->starts.back()) + "\n";
  return text;
}

Json StatusJson(const StatusInput& input) {
  Json json = {
      {"run_dir", input.run_dir},
      {"status", WordOf(input)},
      {"step", StepOf(input)},
      {"target_steps", input.state ? Json(input.state->target_steps) : Json(nullptr)},
      {"saved_step", input.state ? Json(input.state->saved_step) : Json(nullptr)},
      {"reason", input.state ? Json(input.state->end.reason) : Json(nullptr)},
      {"seconds_left", SecondsLeft(input) >= 0 ? Json(SecondsLeft(input)) : Json(nullptr)},
      {"heartbeat_age", input.heartbeat ? Json(input.now - input.heartbeat->time) : Json(nullptr)},
      {"tokens_per_second", input.heartbeat ? Json(input.heartbeat->tokens_per_second) : Json(nullptr)},
      {"ranks_wait", input.waits ? RunWaitsJson(*input.waits) : Json(nullptr)},
      {"queue", nullptr},
      {"starts", Json::array()},
      {"excluded", Json::array()}};
  if (input.queue) {
    json["queue"] = Json::array();
    for (const QueuedJob& job : *input.queue) {
      json["queue"].push_back({{"job", job.id},
                               {"state", job.state},
                               {"reason", job.reason},
                               {"nodes", job.nodes},
                               {"left", job.left},
                               {"start", job.start}});
    }
  }
  if (const Submission* submission = Last(input)) {
    for (const LedgerStart& start : submission->starts) {
      json["starts"].push_back({{"job", start.job},
                                {"restart", start.restart},
                                {"time", start.time},
                                {"nodes", start.nodes},
                                {"spare", start.picked ? Json(start.picked->spare) : Json::array()},
                                {"log", LogOf(input.run_dir, start)},
                                {"from_step", start.step},
                                {"step", start.end ? Json(start.end->step) : Json(nullptr)},
                                {"exit_code", start.end ? Json(start.end->exit_code) : Json(nullptr)},
                                {"action", start.end ? Json(NameOf(start.end->action)) : Json(nullptr)},
                                {"failed", start.end && start.end->failed},
                                {"reason", EndText(input, *submission, start)}});
    }
    json["excluded"] = ExcludedNodes(*submission);
  }
  return json;
}

}  // namespace unipool
