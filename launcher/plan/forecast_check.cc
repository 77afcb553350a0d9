#include "launcher/plan/forecast_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>

#include "launcher/plan/forecast_text.h"
#include "launcher/plan/slowest_rank.h"
#include "launcher/reports/readable_number.h"
#include "models/settings.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int64_t kWarmUp = 2;  // steps that take longer: memory is taken, connections are made
class Measured {
 public:
  explicit Measured(const RunRecord& run) : run_(run) {}

  std::vector<double> Values(const std::string& metric) const {
    std::vector<double> values;
    const auto found = run_.series().find(metric);
    if (found == run_.series().end()) return values;
    for (const auto& [step, value] : found->second) {
      if (step > kWarmUp && std::isfinite(value)) values.push_back(value);
    }
    return values;
  }
  std::optional<double> Median(const std::string& metric) const {
    std::vector<double> values = Values(metric);
    if (values.empty()) return {};
    std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  }
  // The largest value and the first update that it was measured in.
  std::optional<std::pair<int64_t, double>> LargestWithStep(const std::string& metric) const {
    const auto found = run_.series().find(metric);
    if (found == run_.series().end() || found->second.empty()) return {};
    return *std::max_element(found->second.begin(), found->second.end(),
                             [](const auto& a, const auto& b) { return a.second < b.second; });
  }
  std::optional<double> AtUpdate(const std::string& metric, int64_t update) const {
    const auto found = run_.series().find(metric);
    if (found == run_.series().end()) return {};
    for (const auto& [at, value] : found->second) {
      if (at == update) return value;
    }
    return {};
  }
  // Of the line of an update; its step counts from 1 there, and from 0 in records. Step 0 lacks exchanges
  // that count for the step after them.
  std::optional<double> At(const std::string& metric, int64_t step) const {
    if (step < 0) return Median(metric);
    if (step == 0) return {};
    return AtUpdate(metric, step + 1);
  }

 private:
  const RunRecord& run_;
};

bool IsEmulated(const RunRecord& run) {
  return run.series().count("virtual_step_seconds") > 0;
}

const char* SecondsName(const RunRecord& run) {
  return IsEmulated(run) ? "virtual_step_seconds" : "step_seconds";
}

std::optional<double> Scaled(std::optional<double> value, double factor) {
  return value ? std::optional<double>(factor * *value) : value;
}

// Counted arrays of the rank that needs most, as the run counts them: without the slack of allocators.
int64_t MemoryAt(const Config& config, const MeshShape& mesh, double imbalance) {
  int64_t most = 0;
  for (int stage = 0; stage < mesh.stages; ++stage) {
    const int rank = RankOf(mesh, {.stage = stage});  // has most experts
    most = std::max(most, PlanMemory(config, mesh, rank, imbalance).total());
  }
  return most;
}

// The most that a rank used, which rank, and the rows that its arrays held then.
struct MeasuredPeak {
  double bytes = 0;
  int rank = 0;
  std::optional<HeldRows> rows;  // absent: the run does not tell
};

std::optional<MeasuredPeak> PeakOf(const Measured& measured, int ranks) {
  const std::optional<std::pair<int64_t, double>> largest = measured.LargestWithStep("peak_memory_bytes");
  if (!largest) return {};
  MeasuredPeak peak{.bytes = largest->second};
  const auto rank = measured.AtUpdate("peak_memory_rank", largest->first);
  HeldRows rows;
  const auto numbers = rows.numbers();
  bool knows_all = rank && *rank >= 0 && *rank < ranks;
  for (int i = 0; i < HeldRows::kNumNumbers && knows_all; ++i) {
    const auto value =
        measured.AtUpdate(std::string("peak_memory_rows.") + HeldRows::Names()[i], largest->first);
    if (value) *numbers[i] = std::llround(*value);
    knows_all = value.has_value();
  }
  if (!knows_all) return peak;
  peak.rank = static_cast<int>(*rank);
  peak.rows = rows;
  return peak;
}

// The settings of a run that has got so far: experts have moved only where the first move came.
Config UpTo(const Config& config, int64_t updates) {
  Config until = config;
  until.mutable_train()->set_steps(std::min<int64_t>(updates, config.train().steps()));
  return until;
}

// Of bytes in a step that nobody recorded: between what the run's own steps sent, and `tolerance` beyond.
std::optional<CheckLine::Allowed> AllowedBytes(const Measured& measured, const std::string& metric,
                                               double tolerance) {
  const std::vector<double> values = measured.Values(metric);
  if (values.empty()) return {};
  const double median = *measured.Median(metric);
  if (median <= 0) return CheckLine::Allowed{};
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return CheckLine::Allowed{.below = tolerance + 1 - *least / median,
                            .above = tolerance + *most / median - 1};
}

// Whether experts are placed anew behind this number of updates.
bool MovesBehind(const ParallelConfig& parallel, int64_t updates) {
  const bool is_on = parallel.placement() != ParallelConfig::CONTIGUOUS || parallel.shadow_experts() != 0;
  return is_on && parallel.replace_every() > 0 && updates > 0 && updates % parallel.replace_every() == 0;
}

// What a recorded step sends that no plan has; "": nothing. Experts that move behind a step count for the one
// after it.
std::string MoreBytes(const Config& config, const MeshShape& mesh, int64_t step) {
  if (step < 0 || mesh.world() == 1) return "";
  const ParallelConfig& parallel = config.parallel();
  std::vector<std::string> parts;
  if (mesh.pool() > 1 && parallel.shadow_experts() != 0) {
    parts.push_back(parallel.shadow_experts() < 0 ? "copies of experts (parallel.shadow_experts=auto)"
                                                  : Format("copies of experts (parallel.shadow_experts=%d)",
                                                           parallel.shadow_experts()));
  }
  if (mesh.pool() > 1 && (MovesBehind(parallel, step) || MovesBehind(parallel, step + 1))) {
    parts.push_back(Format("experts that moved beside step %d (parallel.replace_every=%d)", step,
                           parallel.replace_every()));
  }
  if (config.moe().balance_scope() == BalanceScope::MICROBATCH)
    parts.emplace_back("shares of experts after each microbatch (moe.balance_scope=MICROBATCH)");
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

void AddMemory(const Config& config, const MeshShape& mesh, const std::optional<MeasuredPeak>& peak,
               double tolerance, std::vector<CheckLine>& lines) {
  const auto bytes = peak ? std::optional<double>(peak->bytes) : std::nullopt;
  const auto add = [&](const char* name, int64_t planned, std::optional<CheckLine::Allowed> allowed) {
    lines.push_back({.name = name,
                     .is_bytes = true,
                     .planned = static_cast<double>(planned),
                     .measured = bytes,
                     .allowed = allowed});
  };
  add("memory with level rows", MemoryAt(config, mesh, kEvenRouting), {});
  if (config.moe().shrink_to() == config.moe().experts()) {
    // The peak may be of the pool as it was, whose size the settings no longer tell.
    add("memory with all rows", MemoryAt(config, mesh, kAllRowsHere), {});
    return;
  }
  if (peak && peak->rows) {
    Config still = config;
    still.mutable_parallel()->set_replace_every(0);
    const int64_t planned = PlanMemory(config, mesh, peak->rank, *peak->rows).total();
    const int64_t moves = planned - PlanMemory(still, mesh, peak->rank, *peak->rows).total();
    // The peak may have come when no expert moved.
    add("memory with the run's rows", planned,
        CheckLine::Allowed{.above = tolerance + static_cast<double>(moves) / peak->bytes});
    return;
  }
  add("memory with all rows", MemoryAt(config, mesh, kAllRowsHere),
      CheckLine::Allowed{.above = std::numeric_limits<double>::infinity()});
}

std::string ValueText(const CheckLine& line, double value) {
  return line.is_bytes ? FormatBytes(std::llround(value)) : SecondsText(value);
}

std::string AllowedText(const CheckLine& line) {
  if (!line.allowed) return "-";
  const double below = 100 * line.allowed->below, above = 100 * line.allowed->above;
  if (below == 0 && above == 0) return "equal";
  const std::string least = below == 0 ? "0" : Format("%.3g", -below);
  if (std::isinf(above)) return "from " + least;
  return Format("%s to +%.3g %%", least.c_str(), above);
}

std::vector<std::string> OutsideOf(const ForecastCheck& check) {
  std::vector<std::string> names;
  for (const CheckLine& line : check.lines) {
    if (!line.Holds()) names.push_back(line.name);
  }
  return names;
}

}  // namespace

std::optional<double> CheckLine::Error() const {
  if (!measured) return {};
  if (*measured == 0) return planned == 0 ? 0 : std::numeric_limits<double>::infinity();
  return planned / *measured - 1;
}

bool CheckLine::Holds() const {
  if (!allowed || !measured) return true;
  const double rounding = is_bytes ? 0.5 : 0;
  return planned >= *measured * (1 - allowed->below) - rounding &&
         planned <= *measured * (1 + allowed->above) + rounding;
}

bool ForecastCheck::Holds() const {
  return std::all_of(lines.begin(), lines.end(), [](const CheckLine& line) { return line.Holds(); });
}

double UnsentShare(const RunRecord& run) {
  const std::vector<double> shares = Measured(run).Values("tie_share");
  if (shares.empty()) return 0;
  return std::accumulate(shares.begin(), shares.end(), 0.0) / static_cast<double>(shares.size());
}

double UsedExpertsOf(const RunRecord& run, int64_t step) {
  const Measured measured(run);
  const std::optional<double> of_step = measured.At("used_experts", step);
  return of_step ? *of_step : measured.Median("used_experts").value_or(0);
}

std::optional<double> MedianStepOf(const RunRecord& run) {
  return Measured(run).Median(SecondsName(run));
}

ForecastCheck CheckForecast(const Forecast& forecast, const Config& config, int ranks,
                            const MeasuredRun& measured_run, const Tolerances& tolerances) {
  const RunRecord& run = measured_run.run;
  const int64_t step = measured_run.step;
  const Measured measured(run);
  const std::optional<double> step_seconds = MedianStepOf(run);
  if (!step_seconds) {
    throw UserError(
        Format("%s: has no step after the first %d, so there is nothing to compare; let it run "
               "longer",
               run.path().c_str(), kWarmUp));
  }
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const std::optional<double> blocked = Scaled(measured.Median("blocked_ms"), 1e-3);
  const WorkSeconds& work = forecast.breakdown.work;
  const SlowestStep slowest = SlowestStepOf(
      {.first_rank_seconds = *step_seconds, .ranks = ranks, .is_emulated = IsEmulated(run), .step = step},
      measured_run.traffic);
  ForecastCheck check;
  check.step_source = slowest.source;
  check.more_bytes = MoreBytes(config, mesh, step);
  check.num_steps = static_cast<int64_t>(measured.Values(SecondsName(run)).size());
  check.not_planned = forecast.not_planned;
  using Allowed = std::optional<CheckLine::Allowed>;
  const auto add = [&](const char* name, bool is_bytes, double planned, std::optional<double> value,
                       const Allowed& allowed) {
    check.lines.push_back(
        {.name = name, .is_bytes = is_bytes, .planned = planned, .measured = value, .allowed = allowed});
  };
  add("step", false, forecast.step, slowest.seconds,
      check.not_planned.empty() ? Allowed({tolerances.step, tolerances.step}) : Allowed());
  add("compute", false, std::accumulate(work.begin(), work.end(), 0.0),
      blocked ? std::optional<double>(*step_seconds - *blocked) : blocked, {});
  add("idle", false, forecast.breakdown.idle + forecast.breakdown.after_last,
      Scaled(measured.Median("idle_ms"), 1e-3), {});
  add("exposed", false, forecast.breakdown.exposed, Scaled(measured.Median("exposed_ms"), 1e-3), {});
  const double inter = forecast.bytes[kInterNode], all = forecast.bytes[kIntraNode] + inter;
  for (const auto& [name, metric, planned] : {std::tuple("bytes of all ranks", "wire_bytes", all),
                                              {"bytes between nodes", "wire_bytes_inter", inter}}) {
    const Allowed of_step = check.more_bytes.empty() ? Allowed(CheckLine::Allowed{})
                                                     : Allowed({tolerances.bytes, tolerances.bytes});
    add(name, true, planned, measured.At(metric, step),
        step >= 0 ? of_step : AllowedBytes(measured, metric, tolerances.bytes));
  }
  AddMemory(UpTo(config, run.last_step()), mesh, PeakOf(measured, ranks), tolerances.memory, check.lines);
  return check;
}

std::string CheckText(const ForecastCheck& check) {
  std::string text = Format("%-26s %11s %11s %9s  %s\n", "", "planned", "measured", "error", "allowed");
  for (const CheckLine& line : check.lines) {
    const std::optional<double> error = line.Error();
    text += Format("%-26s %11s %11s %9s  %s%s\n", line.name.c_str(), ValueText(line, line.planned).c_str(),
                   line.measured ? ValueText(line, *line.measured).c_str() : "-",
                   error ? Format("%+.1f %%", 100 * *error).c_str() : "-", AllowedText(line).c_str(),
                   line.Holds() ? "" : "  OUTSIDE");
  }
  text += Format("\nThe step is that of %s. Other times are medians of %d steps. ", check.step_source.c_str(),
                 check.num_steps);
  if (!check.more_bytes.empty())
    text += "Bytes are not equal, since these are planned without: " + check.more_bytes + ". ";
  if (!check.not_planned.empty()) text += "The step is not judged: " + check.not_planned + ". ";
  const std::vector<std::string> outside = OutsideOf(check);
  if (outside.empty()) return text + "Each line is inside what is allowed.\n";
  text += "Outside what is allowed: ";
  for (size_t i = 0; i < outside.size(); ++i) text += (i > 0 ? ", " : "") + outside[i];
  return text + ".\n";
}

std::string CheckJson(const ForecastCheck& check) {
  nlohmann::json lines = nlohmann::json::array();
  for (const CheckLine& line : check.lines) {
    nlohmann::json entry{{"name", line.name}, {"planned", line.planned}, {"holds", line.Holds()}};
    if (line.measured) entry["measured"] = *line.measured;
    if (const auto error = line.Error()) entry["error"] = *error;
    if (line.allowed) entry["allowed"] = {-line.allowed->below, line.allowed->above};
    lines.push_back(std::move(entry));
  }
  return nlohmann::json{{"lines", lines},
                        {"steps", check.num_steps},
                        {"step_source", check.step_source},
                        {"more_bytes", check.more_bytes},
                        {"not_planned", check.not_planned},
                        {"holds", check.Holds()}}
      .dump();
}

}  // namespace unipool
