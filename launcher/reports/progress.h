// What people see of a run. On a terminal it is one line that stays in place, which says first what one wants
// to know and has a bar. Elsewhere it is plain lines, fewer when steps are quick.
#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "configs/config.pb.h"
#include "launcher/reports/metric_list.h"
#include "launcher/reports/terminal.h"

namespace unipool {

// "1.2 GB = weights 300.0 MB, ...". Kinds of which there is nothing are left out.
std::string MemoryText(const MemoryParts& parts);

struct ProgressOptions {
  int64_t total_steps = 0;
  // What the balancing loss is called, and what helps against zero scores.
  Balance::Value balance = Balance::POOL_LOSS;
  BalanceCounts::Value balance_counts = BalanceCounts::ALL;
  // The unit in which the age of the loss's expert shares is told.
  BalanceScope::Value balance_scope = BalanceScope::STEP;
  // Where `out` ends, for a line that stays in place. Null or not there: plain lines.
  std::shared_ptr<const OutputTerminal> terminal;
  int columns = 0;            // more than 0: a line that stays in place of this width, whatever the terminal
  double live_seconds = 0.1;  // at least, between two states of the live line
  // Plain lines come when kLineSteps and kLineSeconds have passed, and after kSilentSeconds in any case. The
  // first and the last step are always shown.
  bool every_step = false;  // instead a plain line for each step
};

// How plain lines are spaced.
constexpr int64_t kLineSteps = 10;
constexpr double kLineSeconds = 1, kSilentSeconds = 3;
bool PlainLineIsDue(int64_t steps, double seconds);  // since the line before

// The text of one step: step, loss, time left, tokens/s, balancing loss / its value at balance, age of its
// shares, gradient norm, learning rate.
std::string StepSummary(const StepOutcome& outcome, const ProgressOptions& options, double seconds_left);
// The same with a bar in less than `columns` columns: what stands late in it is left out first, as a whole.
std::string LiveLine(const StepOutcome& outcome, const ProgressOptions& options, double seconds_left,
                     int columns);

// What a start has done, for its last words.
struct StartSummary {
  int64_t first_step = 0, last_step = 0;  // 0: no step was done
  int64_t tokens = 0;                     // of its steps
  double step_seconds = 0;                // in steps alone
  double first_loss = 0, last_loss = 0;
  std::optional<ValidationOutcome> validation;  // the last one
};

class Progress {
 public:
  Progress(std::FILE* out, const ProgressOptions& options) : out_(out), options_(options) {}
  ~Progress();
  // Also warns about a large zero_score_share, at most every 100 steps.
  void Step(const StepOutcome& outcome);
  void Validation(const ValidationOutcome& outcome);
  void Say(const std::string& text);  // a line of its own
  const StartSummary& summary() const { return summary_; }
  double seconds() const;  // since it was made

 private:
  void UpdateTimeLeft(const StepOutcome& outcome);
  void WarnAboutZeroScores(const StepOutcome& outcome);
  bool IsLive() const { return options_.columns > 0 || (options_.terminal && options_.terminal->is_there()); }
  bool IsDue(int64_t step);

  using Clock = std::chrono::steady_clock;
  std::FILE* out_;
  ProgressOptions options_;
  StartSummary summary_;
  double mean_step_seconds_ = 0, seconds_left_ = 0;
  int64_t warned_step_ = -100, shown_step_ = -1;  // -1: none was
  bool line_open_ = false;
  Clock::time_point start_ = Clock::now(), shown_;
};

}  // namespace unipool
