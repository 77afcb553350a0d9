#include "launcher/reports/progress.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "launcher/reports/readable_number.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr double kZeroScoreWarning = 0.2;
constexpr double kTiesShown = 0.005;
constexpr int64_t kStepsBetweenWarnings = 100;
constexpr int kBarColumns = 24, kLeastBarColumns = 8;
constexpr size_t kFirstFields = 4;  // what one wants to know: step, loss, time left, tokens/s

const char* ZeroScoreAdvice(Balance::Value balance, BalanceCounts::Value counts) {
  const bool counts_all = counts == BalanceCounts::ALL;
  switch (balance) {
    case Balance::POOL_LOSS:
      return counts_all ? ", and a low pool loss then is no balance: it counts their choices as use "
                          "(moe.balance_counts "
                          "ALL). Lower moe.balance_coeff or raise model.init_std"
                        : ", and a low pool loss then is no balance. Lower moe.balance_coeff or raise "
                          "model.init_std";
    case Balance::LAYER_LOSS:
      return ", and a low layer loss then is no balance. Lower moe.balance_coeff or raise model.init_std";
    case Balance::BIAS:  // it moves the choice and cannot make a score positive
      return counts_all
                 ? "; biases above the scores choose experts of score 0, moe.balance_counts=POSITIVE does "
                   "not let "
                   "them. Raise model.init_std or lower train.lr"
                 : "; biases move the choice alone and do not help. Raise model.init_std or lower train.lr";
    case Balance::NONE:
      break;
  }
  return ". Raise model.init_std or lower train.lr";
}

}  // namespace

std::string MemoryText(const MemoryParts& parts) {
  std::string text = FormatBytes(std::accumulate(parts.begin(), parts.end(), int64_t{0}));
  const char* separator = " = ";
  for (int i = 0; i < kNumMemoryKinds; ++i) {
    if (parts[i] == 0) continue;
    text += Format("%s%s %s", separator, NameOf(static_cast<MemoryKind>(i)), FormatBytes(parts[i]).c_str());
    separator = ", ";
  }
  return text;
}

namespace {

// "shares 2 microbatches old", or "" when no shares are in force.
std::string AgeOfShares(int64_t age, BalanceScope::Value scope) {
  if (age < 0) return "";
  const bool is_one = age == 1;
  const char* unit = is_one ? "microbatch" : "microbatches";
  if (scope == BalanceScope::STEP) unit = is_one ? "step" : "steps";
  return Format("shares %d %s old", age, unit);
}

std::string BalancingLoss(const StepOutcome& outcome, Balance::Value balance) {
  const LoadReport& load = outcome.report.load;
  const char* name = balance == Balance::LAYER_LOSS ? "layer loss" : "pool loss";
  if (load.pool_loss_at_balance > 0) return Format("%s %.3f x balance", name, outcome.PoolLossOverBalance());
  return load.pool_loss == 0 ? "" : Format("%s %.4f", name, load.pool_loss);
}

// "ties 28 %": choices without a positive score, where there are enough to be seen.
std::string Ties(const LoadReport& load) {
  return load.tie_share >= kTiesShown ? Format("ties %.0f %%", 100 * load.tie_share) : "";
}

// The fields of a line, the most wanted ones first.
std::vector<std::string> Fields(const StepOutcome& outcome, const ProgressOptions& options,
                                double seconds_left) {
  const StepReport& report = outcome.report;
  return {Format("step %d/%d", outcome.step, options.total_steps),
          Format("loss %.4f", report.loss),
          "ETA " + FormatDuration(seconds_left),
          FormatCount(std::llround(outcome.TokensPerSecond())) + " tokens/s",
          BalancingLoss(outcome, options.balance),
          Ties(report.load),
          Format("grad norm %.3f", report.grad_norm),
          Format("lr %.2e", outcome.lr),
          AgeOfShares(report.load.shares_age, options.balance_scope)};
}

std::string Bar(int64_t step, int64_t total_steps, int columns) {
  const double share = total_steps > 0 ? static_cast<double>(step) / static_cast<double>(total_steps) : 1;
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * columns);
  return Format("[%s%s]", std::string(full, '#').c_str(), std::string(columns - full, '.').c_str());
}

void Append(const std::string& field, std::string& line) {
  if (!field.empty()) line += (line.empty() ? "" : "  ") + field;
}

}  // namespace

bool PlainLineIsDue(int64_t steps, double seconds) {
  return seconds >= kSilentSeconds || (steps >= kLineSteps && seconds >= kLineSeconds);
}

std::string StepSummary(const StepOutcome& outcome, const ProgressOptions& options, double seconds_left) {
  std::string line;
  for (const std::string& field : Fields(outcome, options, seconds_left)) Append(field, line);
  return line;
}

std::string LiveLine(const StepOutcome& outcome, const ProgressOptions& options, double seconds_left,
                     int columns) {
  const std::vector<std::string> fields = Fields(outcome, options, seconds_left);
  const int most = std::max(columns - 1, 10);  // the last column would wrap on some terminals
  const int frame = 4;                         // blanks before the bar, its brackets
  std::string line;
  for (size_t i = 0; i < fields.size(); ++i) {
    std::string longer = line;
    Append(fields[i], longer);
    const int bar = i < kFirstFields ? 0 : frame + kLeastBarColumns;
    if (static_cast<int>(longer.size()) + bar > most) break;
    line = longer;
  }
  if (line.empty()) return fields[0].substr(0, most);
  const int room = most - static_cast<int>(line.size()) - frame;
  if (room >= kLeastBarColumns) {
    Append(Bar(outcome.step, options.total_steps, std::min(room, kBarColumns)), line);
  }
  return line;
}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', out_);
}

double Progress::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void Progress::UpdateTimeLeft(const StepOutcome& outcome) {
  // The first step is slower than the rest (pages, caches), so early steps count for little and are soon
  // forgotten.
  const bool first = mean_step_seconds_ == 0;
  mean_step_seconds_ = first ? outcome.seconds : 0.9 * mean_step_seconds_ + 0.1 * outcome.seconds;
  seconds_left_ = mean_step_seconds_ * static_cast<double>(options_.total_steps - outcome.step);
}

bool Progress::IsDue(int64_t step) {
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - shown_).count();
  const bool is_end = shown_step_ < 0 || step == options_.total_steps;
  const bool is_time = IsLive() ? seconds >= options_.live_seconds
                                : options_.every_step || PlainLineIsDue(step - shown_step_, seconds);
  if (!is_end && !is_time) return false;
  shown_step_ = step;
  shown_ = now;
  return true;
}

void Progress::Step(const StepOutcome& outcome) {
  UpdateTimeLeft(outcome);
  if (summary_.first_step == 0) {
    summary_.first_step = outcome.step;
    summary_.first_loss = outcome.report.loss;
  }
  summary_.last_step = outcome.step;
  summary_.last_loss = outcome.report.loss;
  summary_.tokens += outcome.step_tokens;
  summary_.step_seconds += outcome.seconds;
  if (IsDue(outcome.step)) {
    if (IsLive()) {
      const int columns =
          options_.columns > 0 ? options_.columns : SizeOfTerminal(options_.terminal->fd()).columns;
      std::fprintf(out_, "\r%s\033[K", LiveLine(outcome, options_, seconds_left_, columns).c_str());
      line_open_ = true;
      std::fflush(out_);
    } else {
      Say(StepSummary(outcome, options_, seconds_left_));
    }
  }
  WarnAboutZeroScores(outcome);
}

void Progress::Validation(const ValidationOutcome& outcome) {
  summary_.validation = outcome;
  std::string text = Format("step %d  validation loss %.4f  perplexity %.2f", outcome.step, outcome.loss,
                            std::exp(outcome.loss));
  const char* separator = "  (";
  for (const NamedNumber& source : outcome.by_source) {
    text += Format("%s%s %.4f", separator, source.name, source.value);
    separator = ", ";
  }
  if (!outcome.by_source.empty()) text += ")";
  for (const NamedNumber& task : outcome.task_acc) text += Format("  %s %.4f", task.name, task.value);
  Say(text);
}

void Progress::Say(const std::string& text) {
  if (line_open_) std::fputs("\r\033[K", out_);
  line_open_ = false;
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
}

void Progress::WarnAboutZeroScores(const StepOutcome& outcome) {
  const double share = outcome.report.load.zero_score_share;
  if (!(share > kZeroScoreWarning) || outcome.step - warned_step_ < kStepsBetweenWarnings) return;
  warned_step_ = outcome.step;
  Say(
      Format("warning: step %d: %.0f %% of all tokens and layers have no positive router score (%.0f %% of "
             "all choices); "
             "the experts are off for them%s",
             outcome.step, 100 * share, 100 * outcome.report.load.tie_share,
             ZeroScoreAdvice(options_.balance, options_.balance_counts)));
}

}  // namespace unipool
