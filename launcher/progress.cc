#include "launcher/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "launcher/readable_number.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr double kZeroScoreWarning = 0.3;
constexpr int64_t kStepsBetweenWarnings = 100;
constexpr int kBarColumns = 24;

int ColumnsOf(std::FILE* out) {
  winsize size{};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 120;
}

const char* ZeroScoreAdvice(Balance::Value balance) {
  switch (balance) {
    case Balance::POOL_LOSS:
      return ", and a low pool loss then is no balance. Lower moe.balance_coeff or raise model.init_std";
    case Balance::LAYER_LOSS:
      return ", and a low layer loss then is no balance. Lower moe.balance_coeff or raise model.init_std";
    case Balance::BIAS:  // it moves the choice and cannot make a score positive
      return "; biases move the choice alone and do not help. Raise model.init_std or lower train.lr";
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

// " (shares 2 microbatches old)", or "" when no shares are in force.
std::string AgeOfShares(int64_t age, BalanceScope::Value scope) {
  if (age < 0) return "";
  const bool is_one = age == 1;
  const char* unit = is_one ? "microbatch" : "microbatches";
  if (scope == BalanceScope::STEP) unit = is_one ? "step" : "steps";
  return Format(" (shares %d %s old)", age, unit);
}

std::string BalancingLoss(const StepOutcome& outcome, Balance::Value balance) {
  const LoadReport& load = outcome.report.load;
  const char* name = balance == Balance::LAYER_LOSS ? "layer loss" : "pool loss";
  if (load.pool_loss_at_balance > 0)
    return Format("  %s %.3f x balance", name, outcome.PoolLossOverBalance());
  return load.pool_loss == 0 ? "" : Format("  %s %.4f", name, load.pool_loss);
}

}  // namespace

std::string StepSummary(const StepOutcome& outcome, const ProgressOptions& options, double seconds_left) {
  const StepReport& report = outcome.report;
  return Format("step %d/%d  loss %.4f", outcome.step, options.total_steps, report.loss) +
         BalancingLoss(outcome, options.balance) +
         AgeOfShares(report.load.shares_age, options.balance_scope) +
         Format("  %s tokens/s  grad norm %.3f  ETA %s  lr %.2e",
                FormatCount(std::llround(outcome.TokensPerSecond())).c_str(), report.grad_norm,
                FormatDuration(seconds_left).c_str(), outcome.lr);
}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', out_);
}

void Progress::UpdateTimeLeft(const StepOutcome& outcome) {
  // The first step is slower than the rest (pages, caches), so early steps count for little and are soon
  // forgotten.
  const bool first = mean_step_seconds_ == 0;
  mean_step_seconds_ = first ? outcome.seconds : 0.9 * mean_step_seconds_ + 0.1 * outcome.seconds;
  seconds_left_ = mean_step_seconds_ * static_cast<double>(options_.total_steps - outcome.step);
}

bool Progress::LineIsDue(int64_t step) {
  const auto now = std::chrono::steady_clock::now();
  const double waited = std::chrono::duration<double>(now - last_line_).count();
  if (any_line_ && step != options_.total_steps && waited < options_.seconds_between_lines) return false;
  any_line_ = true;
  last_line_ = now;
  return true;
}

std::string Progress::Bar(int64_t step) const {
  const double share = options_.total_steps > 0 ? static_cast<double>(step) / options_.total_steps : 1;
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * kBarColumns);
  return Format("[%s%s] ", std::string(full, '#').c_str(), std::string(kBarColumns - full, '.').c_str());
}

void Progress::Step(const StepOutcome& outcome) {
  UpdateTimeLeft(outcome);
  const std::string summary = StepSummary(outcome, options_, seconds_left_);
  if (options_.terminal) {
    const int columns = options_.columns > 0 ? options_.columns : ColumnsOf(out_);
    // A longer line would wrap.
    const std::string line = (Bar(outcome.step) + summary).substr(0, std::max(columns - 1, 10));
    std::fprintf(out_, "\r%s\033[K", line.c_str());
    line_open_ = true;
    std::fflush(out_);
  } else if (LineIsDue(outcome.step)) {
    Say(summary);
  }
  WarnAboutZeroScores(outcome);
}

void Progress::Validation(const ValidationOutcome& outcome) {
  std::string text = Format("step %d  validation loss %.4f  perplexity %.2f", outcome.step, outcome.loss,
                            std::exp(outcome.loss));
  const char* separator = "  (";
  for (const SourceLoss& source : outcome.by_source) {
    text += Format("%s%s %.4f", separator, source.source.c_str(), source.loss);
    separator = ", ";
  }
  Say(outcome.by_source.empty() ? text : text + ")");
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
  Say(Format(
      "warning: step %d: %.0f %% of all tokens and layers have no positive router score; the experts are "
      "off for them%s",
      outcome.step, 100 * share, ZeroScoreAdvice(options_.balance)));
}

}  // namespace unipool
