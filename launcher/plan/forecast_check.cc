#include "launcher/plan/forecast_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>

#include "launcher/data/batch_reader.h"
#include "launcher/plan/forecast_text.h"
#include "launcher/plan/slowest_rank.h"
#include "launcher/reports/readable_number.h"
#include "models/settings.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int64_t kWarmUp = 2;  // steps that take longer: memory is taken, connections are made
// Of memory that may be planned too low: small arrays that validation and checkpoints make.
constexpr double kSmallBytes = 64 << 10;

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
  std::optional<double> Largest(const std::string& metric) const {
    const auto found = run_.series().find(metric);
    if (found == run_.series().end() || found->second.empty()) return {};
    double largest = 0;
    for (const auto& [step, value] : found->second) largest = std::max(largest, value);
    return largest;
  }
  // Of the line of an update; its step counts from 1 there, and from 0 in records. Step 0 lacks exchanges
  // that count for the step after them.
  std::optional<double> At(const std::string& metric, int64_t step) const {
    if (step < 0) return Median(metric);
    if (step == 0) return {};
    const auto found = run_.series().find(metric);
    if (found == run_.series().end()) return {};
    for (const auto& [update, value] : found->second) {
      if (update == step + 1) return value;
    }
    return {};
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

// Counted arrays of the rank that needs most, as the run counts them: without the slack of allocators. In
// every slot a rank gets `received` rows; none: its even share.
int64_t MemoryAt(const Config& config, const MeshShape& mesh, std::optional<double> received) {
  const int64_t rows = int64_t{config.train().micro_batch()} * config.model().seq_length() *
                       config.moe().top_k() * mesh.pool();
  int64_t most = 0;
  for (int stage = 0; stage < mesh.stages; ++stage) {
    const int rank = RankOf(mesh, {.stage = stage});  // has most experts
    const auto even = static_cast<double>(
        rows * EvenPartition(config.moe().experts(), mesh.pool(), rank % mesh.pool()).size() /
        config.moe().experts());
    const double imbalance = !received ? kEvenRouting : even > 0 ? *received / even : kAllRowsHere;
    most = std::max(most, PlanMemory(config, mesh, rank, imbalance).total());
  }
  return most;
}

// The most rows that any rank received in a slot. Alone it gets all rows, which are its even share; infinite
// where the run does not tell.
std::optional<double> MostReceived(const MeshShape& mesh, const Measured& measured) {
  if (mesh.pool() == 1) return {};
  return measured.Largest("most_rows_received").value_or(std::numeric_limits<double>::infinity());
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

// Bytes that memory may be planned too low: small arrays, and the token ids and targets of a validation,
// which has more microbatches in a pass than a step may have.
double AllowedBelow(const Config& config) {
  const double tokens = double{1} * config.train().micro_batch() * config.model().seq_length();
  return kSmallBytes + (config.train().eval_every() > 0
                            ? 2 * sizeof(int32_t) * BatchReader::kPassMicrobatches * tokens
                            : 0);
}

// Whether experts are placed anew behind this number of updates.
bool MovesExperts(const ParallelConfig& parallel, int64_t updates) {
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
  if (mesh.pool() > 1 && (MovesExperts(parallel, step) || MovesExperts(parallel, step + 1))) {
    parts.push_back(Format("experts that moved beside step %d (parallel.replace_every=%d)", step,
                           parallel.replace_every()));
  }
  if (config.moe().balance_scope() == BalanceScope::MICROBATCH)
    parts.emplace_back("shares of experts after each microbatch (moe.balance_scope=MICROBATCH)");
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string ValueText(const CheckLine& line, double value) {
  return line.is_bytes ? FormatBytes(std::llround(value)) : SecondsText(value);
}

std::string AllowedText(const CheckLine& line) {
  if (!line.allowed) return "-";
  const double below = 100 * line.allowed->below, above = 100 * line.allowed->above;
  const double bytes = line.allowed->bytes_below;
  if (below == 0 && above == 0 && bytes == 0) return "equal";
  const std::string least = bytes > 0    ? "-" + FormatBytes(std::llround(bytes))
                            : below == 0 ? "0"
                                         : Format("%.3g", -below);
  if (std::isinf(above)) return "from " + least;
  return Format("%s to +%.3g %%", least.c_str(), above);
}

// The least Error() that holds.
double LeastAllowed(const CheckLine& line) {
  const double bytes = line.allowed->bytes_below;
  return -line.allowed->below - (bytes > 0 && line.measured.value_or(0) > 0 ? bytes / *line.measured : 0);
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
  return planned >= *measured * (1 - allowed->below) - allowed->bytes_below - rounding &&
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
  const std::optional<double> peak = measured.Largest("peak_memory_bytes");
  add("memory with level rows", true, static_cast<double>(MemoryAt(config, mesh, {})), peak, {});
  const std::optional<double> received = MostReceived(mesh, measured);
  const bool is_bound = received && std::isinf(*received);
  add(is_bound ? "memory with all rows" : "memory with the most rows", true,
      static_cast<double>(MemoryAt(config, mesh, received)), peak,
      Allowed({.above = is_bound ? std::numeric_limits<double>::infinity() : tolerances.memory,
               .bytes_below = AllowedBelow(config)}));
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
    if (line.allowed) entry["allowed"] = {LeastAllowed(line), line.allowed->above};
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
