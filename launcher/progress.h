// What people see of a run. On a terminal it is one line that stays in place, with a bar. Elsewhere it is
// plain lines: one a step, or fewer when steps are quick.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "configs/config.pb.h"
#include "launcher/metric_list.h"

namespace unipool {

// "1.2 GB = weights 300.0 MB, ...". Kinds of which there is nothing are left out.
std::string MemoryText(const MemoryParts& parts);

struct ProgressOptions {
  int64_t total_steps = 0;
  // What the balancing loss is called, and what helps against zero scores.
  Balance::Value balance = Balance::POOL_LOSS;
  // The unit in which the age of the loss's expert shares is told.
  BalanceScope::Value balance_scope = BalanceScope::STEP;
  bool terminal = false;  // isatty of `out`
  // Without a terminal. The first and the last step are always shown. 0: every step is shown.
  double seconds_between_lines = 1;
  int columns = 0;  // width of the terminal; 0: asked from it
};

// The text of one step: step, loss, balancing loss / its value at balance, age of its shares, tokens/s,
// gradient norm, time left, learning rate.
std::string StepSummary(const StepOutcome& outcome, const ProgressOptions& options, double seconds_left);

class Progress {
 public:
  Progress(std::FILE* out, const ProgressOptions& options) : out_(out), options_(options) {}
  ~Progress();
  // Also warns about a large zero_score_share, at most every 100 steps.
  void Step(const StepOutcome& outcome);
  void Validation(const ValidationOutcome& outcome);
  void Say(const std::string& text);  // a line of its own

 private:
  void UpdateTimeLeft(const StepOutcome& outcome);
  void WarnAboutZeroScores(const StepOutcome& outcome);
  std::string Bar(int64_t step) const;
  bool LineIsDue(int64_t step);

  std::FILE* out_;
  ProgressOptions options_;
  double mean_step_seconds_ = 0, seconds_left_ = 0;
  int64_t warned_step_ = -100;
  bool any_line_ = false, line_open_ = false;
  std::chrono::steady_clock::time_point last_line_;
};

}  // namespace unipool
