// What people see of a run: on a terminal one line that stays in place, with a bar; elsewhere plain lines,
// one a step or fewer when steps are quick.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "configs/config.pb.h"
#include "launcher/metrics.h"

namespace unipool {

// "8s", "3m05s", "2h07m", "3d04h"
std::string FormatDuration(double seconds);
// "1.2 GB = weights 300.0 MB, ..."; kinds that it has nothing of are left out.
std::string MemoryText(const MemoryParts& parts);

struct ProgressOptions {
  int64_t total_steps = 0;
  Balance::Value balance =
      Balance::POOL_LOSS;  // what the balancing loss is called, and what helps against zero scores
  BalanceScope::Value balance_scope = BalanceScope::STEP;  // unit of the age of its shares
  bool terminal = false;                                   // isatty of `out`
  double seconds_between_lines =
      1;            // without a terminal; the first and last step are always shown. 0: every step
  int columns = 0;  // width of the terminal; 0: asked from it
};

// step, loss, balancing loss relative to its value at balance and the age of its shares, tokens/s, gradient
// norm, learning rate and time left.
std::string StepSummary(const StepMetrics& metrics, const ProgressOptions& options, double seconds_left);

class Progress {
 public:
  Progress(std::FILE* out, const ProgressOptions& options) : out_(out), options_(options) {}
  ~Progress();
  void Step(
      const StepMetrics& metrics);  // also warns about a large zero_score_share, at most every 100 steps
  void Validation(int64_t step, double valid_loss);
  void Say(const std::string& text);  // a line of its own

 private:
  void UpdateTimeLeft(const StepMetrics& metrics);
  void WarnAboutZeroScores(const StepMetrics& metrics);
  std::string Bar(const StepMetrics& metrics) const;
  bool LineIsDue(const StepMetrics& metrics);

  std::FILE* out_;
  ProgressOptions options_;
  double mean_step_seconds_ = 0, seconds_left_ = 0;
  int64_t warned_step_ = -100;
  bool any_line_ = false, line_open_ = false;
  std::chrono::steady_clock::time_point last_line_;
};

}  // namespace unipool
