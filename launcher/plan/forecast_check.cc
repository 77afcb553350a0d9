#include "launcher/plan/forecast_check.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "launcher/plan/forecast_text.h"
#include "launcher/reports/readable_number.h"
#include "models/settings.h"
#include "runtime/errors.h"

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
  std::optional<double> Largest(const std::string& metric) const {
    const auto found = run_.series().find(metric);
    if (found == run_.series().end() || found->second.empty()) return {};
    double largest = 0;
    for (const auto& [step, value] : found->second) largest = std::max(largest, value);
    return largest;
  }
  // Of the line of an update; its step counts from 1 there, and from 0 in records.
  std::optional<double> At(const std::string& metric, int64_t step) const {
    if (step < 0) return Median(metric);
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

std::optional<double> Scaled(std::optional<double> value, double factor) {
  return value ? std::optional<double>(factor * *value) : value;
}

int64_t MemoryAt(const Config& config, const MeshShape& mesh, const Cluster& cluster, double imbalance) {
  int64_t most = 0;
  for (int stage = 0; stage < mesh.stages; ++stage) {
    most = std::max(most, PlanMemory(config, mesh, RankOf(mesh, {.stage = stage}), imbalance).total());
  }
  return static_cast<int64_t>(static_cast<double>(most) * (1 + cluster.config.memory().slack()));
}

std::string ValueText(const CheckLine& line, double value) {
  return line.is_bytes ? FormatBytes(std::llround(value)) : SecondsText(value);
}

}  // namespace

std::optional<double> CheckLine::Error() const {
  if (!measured) return {};
  if (*measured == 0) return planned == 0 ? 0 : std::numeric_limits<double>::infinity();
  return planned / *measured - 1;
}

bool ForecastCheck::Holds(double tolerance) const {
  const std::optional<double> error = lines[0].Error();
  return error && std::abs(*error) <= tolerance;
}

ForecastCheck CheckForecast(const Forecast& forecast, const Config& config, int ranks, const Cluster& cluster,
                            const RunRecord& run, int64_t step) {
  const Measured measured(run);
  const bool is_emulated = run.series().count("virtual_step_seconds") > 0;
  const char* const seconds = is_emulated ? "virtual_step_seconds" : "step_seconds";
  const std::optional<double> step_seconds = measured.Median(seconds);
  if (!step_seconds) {
    throw UserError(
        Format("%s: has no step after the first %d, so there is nothing to compare; let it run "
               "longer",
               run.path().c_str(), kWarmUp));
  }
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const std::optional<double> blocked = Scaled(measured.Median("blocked_ms"), 1e-3);
  const WorkSeconds& work = forecast.breakdown.work;
  ForecastCheck check;
  check.num_steps = static_cast<int64_t>(measured.Values(seconds).size());
  const auto add = [&](const char* name, bool is_bytes, double planned, std::optional<double> value) {
    check.lines.push_back({.name = name, .is_bytes = is_bytes, .planned = planned, .measured = value});
  };
  add("step", false, forecast.step, step_seconds);
  add("compute", false, std::accumulate(work.begin(), work.end(), 0.0),
      blocked ? std::optional<double>(*step_seconds - *blocked) : blocked);
  add("idle", false, forecast.breakdown.idle + forecast.breakdown.after_last,
      Scaled(measured.Median("idle_ms"), 1e-3));
  add("exposed", false, forecast.breakdown.exposed, Scaled(measured.Median("exposed_ms"), 1e-3));
  add("bytes of all ranks", true, forecast.bytes[kIntraNode] + forecast.bytes[kInterNode],
      measured.At("wire_bytes", step));
  add("bytes between nodes", true, forecast.bytes[kInterNode], measured.At("wire_bytes_inter", step));
  const double imbalance = measured.Largest("receive_imbalance_p95").value_or(1);
  add("memory with level rows", true, static_cast<double>(MemoryAt(config, mesh, cluster, kEvenRouting)),
      measured.Largest("peak_memory_bytes"));
  add("memory at the run's imbalance", true,
      static_cast<double>(MemoryAt(config, mesh, cluster, std::max(1.0, imbalance))),
      measured.Largest("peak_memory_bytes"));
  return check;
}

std::string SavedForecastText(const std::string& run_dir) {
  std::ifstream file(run_dir + "/" + kSavedForecast);
  if (!file) return "";
  const nlohmann::json saved = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!saved.is_object() || !saved.contains("step_seconds") || !saved["step_seconds"].is_number()) return "";
  try {
    RunRecord run(run_dir);
    run.Read();
    const Measured measured(run);
    const bool is_emulated = run.series().count("virtual_step_seconds") > 0;
    const auto seconds = measured.Median(is_emulated ? "virtual_step_seconds" : "step_seconds");
    if (!seconds) return "";
    const double planned = saved["step_seconds"];
    return Format("planned before the run: %s a step; measured: %s (plan %+.1f %%)",
                  SecondsText(planned).c_str(), SecondsText(*seconds).c_str(),
                  100 * (planned / *seconds - 1));
  } catch (const UserError&) {
    return "";
  }
}

std::string CheckText(const ForecastCheck& check, double tolerance) {
  std::string text = Format("%-30s %11s %11s %9s\n", "", "planned", "measured", "error");
  for (const CheckLine& line : check.lines) {
    const std::optional<double> error = line.Error();
    text += Format("%-30s %11s %11s %9s\n", line.name.c_str(), ValueText(line, line.planned).c_str(),
                   line.measured ? ValueText(line, *line.measured).c_str() : "-",
                   error ? Format("%+.1f %%", 100 * *error).c_str() : "-");
  }
  const double error = check.lines[0].Error().value_or(0);
  text += Format(
      "\nTimes are medians of %d steps. The step is planned within %.1f %%: %s the tolerance of %g %%\n",
      check.num_steps, 100 * std::abs(error), check.Holds(tolerance) ? "inside" : "outside", 100 * tolerance);
  return text;
}

std::string CheckJson(const ForecastCheck& check, double tolerance) {
  nlohmann::json lines = nlohmann::json::array();
  for (const CheckLine& line : check.lines) {
    nlohmann::json entry{{"name", line.name}, {"planned", line.planned}};
    if (line.measured) entry["measured"] = *line.measured;
    if (const auto error = line.Error()) entry["error"] = *error;
    lines.push_back(std::move(entry));
  }
  return nlohmann::json{{"lines", lines}, {"steps", check.num_steps}, {"holds", check.Holds(tolerance)}}
      .dump();
}

}  // namespace unipool
