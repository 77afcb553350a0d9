#include "launcher/reports/watch_frame.h"

#include <algorithm>
#include <cmath>

#include "launcher/reports/readable_number.h"
#include "launcher/reports/shown_width.h"
#include "launcher/reports/terminal.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr double kSilentSeconds = 60;
constexpr size_t kStepsForSpeed = 20;

std::optional<double> Newest(const RunRecord& record, const std::string& metric) {
  const auto found = record.series().find(metric);
  if (found == record.series().end() || found->second.empty()) return std::nullopt;
  return found->second.back().second;
}

// Mean time of the last steps; 0: not known.
double StepSeconds(const RunRecord& record) {
  const auto found = record.series().find("step_seconds");
  if (found == record.series().end()) return 0;
  double sum = 0;
  size_t count = 0;
  for (auto it = found->second.rbegin(); it != found->second.rend() && count < kStepsForSpeed; ++it, ++count)
    sum += it->second;
  return count > 0 && std::isfinite(sum) ? sum / static_cast<double>(count) : 0;
}

double LastSign(const WatchedRun& run) {
  return std::max(run.heartbeat ? run.heartbeat->time : 0, run.state ? run.state->updated : 0);
}

int64_t StepOf(const WatchedRun& run) {
  const int64_t step = std::max(run.record.last_step(), run.state ? run.state->end.step : 0);
  return step;
}

std::string Status(const WatchedRun& run, double now) {
  if (!run.state) return run.record.last_step() > 0 ? "no state.json" : "begins";
  if (run.state->end.status != "running") return run.state->end.status;
  if (run.is_gone) return "killed";
  return now - LastSign(run) > kSilentSeconds ? "silent" : "running";
}

std::string StatusLine(const WatchedRun& run, double now) {
  const int64_t step = StepOf(run), target = run.state ? run.state->target_steps : 0;
  const std::string status = Status(run, now);
  std::string text = run.record.path() + "  " + status;
  if (target <= 0) return text + Format("  step %d", step);
  text += Format("  step %d/%d", step, target);
  const double left = StepSeconds(run.record) * static_cast<double>(target - step);
  if (status == "running" && left > 0) text += "  ETA " + FormatDuration(left);
  return text;
}

std::string Bar(int64_t step, int64_t target, int columns) {
  const double share = std::clamp(static_cast<double>(step) / static_cast<double>(target), 0., 1.);
  const int full = static_cast<int>(share * columns);
  return "[" + std::string(full, '#') + std::string(columns - full, '.') + "]";
}

// "name 2.50  " of a metric's newest number; "" where there is none.
std::string Field(const RunRecord& record, const std::string& name, const char* metric, int digits) {
  const std::optional<double> value = Newest(record, metric);
  const bool is_told = value && (std::isfinite(*value) || name == "loss");
  return is_told ? name + " " + Digits(*value, digits) + "  " : "";
}

std::string NumbersLine(const RunRecord& record) {
  std::string text = Field(record, "loss", "loss", 4) + Field(record, "valid", "valid_loss", 4);
  if (const std::optional<double> speed = Newest(record, "tokens_per_second"); speed && std::isfinite(*speed))
    text += FormatCount(std::llround(std::clamp(*speed, 0., 1e15))) + " tokens/s  ";
  text += Field(record, "grad norm", "grad_norm", 3);
  const std::optional<double> lr = Newest(record, "lr");
  return lr ? text + Format("lr %.2e", *lr) : text;
}

std::string BalanceLine(const RunRecord& record) {
  return Field(record, "pool loss", "pool_loss_over_balance", 3) +
         Field(record, "max violation", "max_violation", 2) +
         Field(record, "dead experts", "dead_experts", 0) + Field(record, "ties", "tie_share", 2) +
         Field(record, "slot imbalance", "slot_imbalance", 3);
}

std::string PlaceLine(const WatchedRun& run, double now) {
  if (!run.state) return "";
  const RunState& state = *run.state;
  std::string text = Format("%d rank%s", state.ranks, state.ranks == 1 ? "" : "s");
  if (!state.hosts.empty()) text += " on " + state.hosts[0];
  if (state.hosts.size() > 1) text += Format(" and %d more", static_cast<int64_t>(state.hosts.size()) - 1);
  if (state.started > 0) text += "  started " + FormatDuration(now - state.started) + " ago";
  if (LastSign(run) > 0) text += "  last sign of life " + FormatDuration(now - LastSign(run)) + " ago";
  if (state.saved_step >= 0) text += Format("  saved step-%d", state.saved_step);
  return text;
}

CurvePoints PointsOf(const RunRecord& record, const std::string& metric) {
  CurvePoints points;
  const auto found = record.series().find(metric);
  if (found == record.series().end()) return points;
  for (const auto& [step, value] : found->second) points.emplace_back(static_cast<double>(step), value);
  return points;
}

std::string Curves(const RunRecord& record, const TerminalChartOptions& options) {
  Chart chart{.title = "loss, nats",
              .x_label = "step",
              .curves = {{.name = "loss", .points = PointsOf(record, "loss")}}};
  Curve valid{.name = "valid_loss", .points = PointsOf(record, "valid_loss")};
  valid.is_sparse = valid.points.size() < 20;
  if (chart.curves[0].points.empty()) return "";
  if (!valid.points.empty()) chart.curves.push_back(std::move(valid));
  return DrawInTerminal(chart, options);
}

}  // namespace

std::string WatchFrame(const WatchedRun& run, double now, const TerminalChartOptions& options) {
  const int most = std::max(options.columns - 1, 10);
  std::vector<std::string> lines = {StatusLine(run, now)};
  const int64_t target = run.state ? run.state->target_steps : 0;
  if (target > 0) lines.push_back(Bar(StepOf(run), target, most - 2));
  lines.push_back(NumbersLine(run.record));
  lines.push_back(BalanceLine(run.record));
  lines.push_back(PlaceLine(run, now));
  if (run.state && !run.state->end.reason.empty()) lines.push_back(run.state->end.reason);
  lines.push_back(run.record.LeftOut());
  if (run.record.series().empty()) lines.emplace_back("no step is done yet");
  std::string text;
  int rows = 0;
  for (std::string& line : lines) {
    if (line.empty()) continue;
    while (line.ends_with(' ')) line.pop_back();
    std::replace(line.begin(), line.end(), '\n', ' ');
    line = TerminalText(line);
    text += FirstColumns(line, most) + "\n";
    ++rows;
  }
  TerminalChartOptions rest = options;
  rest.rows = options.rows - rows - 1;
  return rest.rows < 8 ? text : text + Curves(run.record, rest);
}

}  // namespace unipool
