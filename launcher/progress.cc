#include "launcher/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "launcher/info.h"
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

std::string FormatDuration(double seconds) {
  const int64_t s = std::llround(std::max(0.0, seconds));
  if (s < 60) return Format("%ds", s);
  if (s < 3600) return Format("%dm%02ds", s / 60, s % 60);
  if (s < 86400) return Format("%dh%02dm", s / 3600, s % 3600 / 60);
  return Format("%dd%02dh", s / 86400, s % 86400 / 3600);
}

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

std::string StepSummary(const StepMetrics& m, const ProgressOptions& options, double seconds_left) {
  std::string text = Format("step %d/%d  loss %.4f", m.step, options.total_steps, m.loss);
  const char* name = options.balance == Balance::LAYER_LOSS ? "layer loss" : "pool loss";
  if (m.pool_loss_at_balance > 0) {
    text += Format("  %s %.3f x balance", name, m.PoolLossOverBalance());
  } else if (m.pool_loss != 0) {
    text += Format("  %s %.4f", name, m.pool_loss);
  }
  if (m.pool_shares_age >= 0) {
    text += Format(" (shares %d %s%s old)", m.pool_shares_age,
                   options.balance_scope == BalanceScope::STEP ? "step" : "microbatch",
                   m.pool_shares_age == 1                        ? ""
                   : options.balance_scope == BalanceScope::STEP ? "s"
                                                                 : "es");
  }
  text += Format("  %s tokens/s  grad norm %.3f  ETA %s  lr %.2e",
                 FormatCount(std::llround(m.tokens_per_second)).c_str(), m.grad_norm,
                 FormatDuration(seconds_left).c_str(), m.lr);
  return text;
}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', out_);
}

void Progress::UpdateTimeLeft(const StepMetrics& m) {
  // The first step is slower than the rest (pages, caches), so early steps count for little and are soon
  // forgotten.
  const bool first = mean_step_seconds_ == 0;
  mean_step_seconds_ = first ? m.step_seconds : 0.9 * mean_step_seconds_ + 0.1 * m.step_seconds;
  seconds_left_ = mean_step_seconds_ * static_cast<double>(options_.total_steps - m.step);
}

bool Progress::LineIsDue(const StepMetrics& m) {
  const auto now = std::chrono::steady_clock::now();
  const double waited = std::chrono::duration<double>(now - last_line_).count();
  if (any_line_ && m.step != options_.total_steps && waited < options_.seconds_between_lines) return false;
  any_line_ = true;
  last_line_ = now;
  return true;
}

std::string Progress::Bar(const StepMetrics& m) const {
  const double share = options_.total_steps > 0 ? static_cast<double>(m.step) / options_.total_steps : 1;
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * kBarColumns);
  return Format("[%s%s] ", std::string(full, '#').c_str(), std::string(kBarColumns - full, '.').c_str());
}

void Progress::Step(const StepMetrics& m) {
  UpdateTimeLeft(m);
  const std::string summary = StepSummary(m, options_, seconds_left_);
  if (options_.terminal) {
    const int columns = options_.columns > 0 ? options_.columns : ColumnsOf(out_);
    const std::string line =
        (Bar(m) + summary).substr(0, std::max(columns - 1, 10));  // a longer one would wrap
    std::fprintf(out_, "\r%s\033[K", line.c_str());
    line_open_ = true;
    std::fflush(out_);
  } else if (LineIsDue(m)) {
    Say(summary);
  }
  WarnAboutZeroScores(m);
}

void Progress::Validation(int64_t step, double valid_loss) {
  Say(Format("step %d  validation loss %.4f  perplexity %.2f", step, valid_loss, std::exp(valid_loss)));
}

void Progress::Say(const std::string& text) {
  if (line_open_) std::fputs("\r\033[K", out_);
  line_open_ = false;
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
}

void Progress::WarnAboutZeroScores(const StepMetrics& m) {
  if (!(m.zero_score_share > kZeroScoreWarning) || m.step - warned_step_ < kStepsBetweenWarnings) return;
  warned_step_ = m.step;
  Say(Format(
      "warning: step %d: %.0f %% of all tokens and layers have no positive router score; the experts are "
      "off for them%s",
      m.step, 100 * m.zero_score_share, ZeroScoreAdvice(options_.balance)));
}

}  // namespace unipool
