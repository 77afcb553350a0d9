#include "launcher/plan/forecast_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/reports/readable_number.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostLosses = 3, kMostSensitivities = 4;

std::string JsonName(WorkKind kind) {
  std::string name = Work::Kind_Name(static_cast<Work::Kind>(kind));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

std::string LayersText(const std::vector<int>& layers) {
  std::string text;
  for (const int count : layers) text += (text.empty() ? "" : ",") + std::to_string(count);
  return text;
}

Json NumbersJson(const Cluster& cluster) {
  Json numbers = Json::array();
  for (const ClusterNumber& number : cluster.numbers) {
    numbers.push_back({{"field", number.field},
                       {"value", number.value},
                       {"tag", Tag::Value_Name(number.tag)},
                       {"source", number.source},
                       {"date", number.date},
                       {"spread", number.spread}});
  }
  return numbers;
}

// Messages of the file whose numbers are of one origin, as one line.
std::string AssumedText(const Cluster& cluster) {
  std::string text;
  std::vector<std::string> told;
  for (const ClusterNumber& number : cluster.numbers) {
    if (number.tag == Tag::MEASURED || number.tag == Tag::RECORDED) continue;
    const std::string name = number.source.empty() ? number.field : number.source;
    if (std::find(told.begin(), told.end(), name) != told.end()) continue;
    told.push_back(name);
    const bool is_list = number.field.rfind("processor.", 0) == 0;
    text += Format("  %-9s %s%s%s\n", Tag::Value_Name(number.tag).c_str(),
                   is_list ? "processor" : Format("%s = %g", number.field.c_str(), number.value).c_str(),
                   number.source.empty() ? "" : ": ", number.source.c_str());
  }
  return text;
}

std::string MemoryText(const Forecast& forecast, const Cluster& cluster) {
  const double room = 1e9 * cluster.config.memory().gigabytes();
  std::string text =
      "\nMemory of a stage's rank with most, beside level rows with twice as many and with all of them\n";
  text += Format("  %-6s %-7s %11s %11s %11s  %s\n", "stage", "layers", "level", "twice", "all",
                 room > 0 ? "fits?" : "");
  for (const StageMemory& stage : forecast.memory) {
    const auto fits = [&](int64_t bytes) {
      return static_cast<double>(bytes + forecast.fixed_bytes) <= room;
    };
    const char* answer = room <= 0           ? ""
                         : fits(stage.worst) ? "always"
                         : fits(stage.twice) ? "with twice the rows"
                         : fits(stage.level) ? "with level rows only"
                                             : "no";
    text += Format("  %-6d %-7d %11s %11s %11s  %s\n", stage.stage, stage.layers,
                   FormatBytes(stage.level + forecast.fixed_bytes).c_str(),
                   FormatBytes(stage.twice + forecast.fixed_bytes).c_str(),
                   FormatBytes(stage.worst + forecast.fixed_bytes).c_str(), answer);
  }
  return text;
}

}  // namespace

std::string SecondsText(double seconds) {
  if (seconds >= 1) return Format("%.3g s", seconds);
  if (seconds >= 1e-3) return Format("%.3g ms", 1e3 * seconds);
  return Format("%.3g us", 1e6 * seconds);
}

std::string CalibrationText(const Cluster& cluster) {
  const Tag::Value least =
      cluster.TagOf("processor") < cluster.TagOf("") ? cluster.TagOf("processor") : cluster.TagOf("");
  if (least == Tag::MEASURED) return "";
  return Format("not calibrated: %s has numbers that are %s; `unipool calibrate` measures them",
                cluster.path.c_str(), least == Tag::SPEC ? "of data sheets" : "assumed or of data sheets");
}

Json ForecastJson(const Forecast& forecast, const Cluster& cluster,
                  const std::vector<Sensitivity>& sensitivities) {
  Json work;
  for (int kind = 0; kind < kNumWorkKinds; ++kind)
    work[JsonName(static_cast<WorkKind>(kind))] = forecast.breakdown.work[kind];
  Json losses = Json::array(), memory = Json::array(), rates = Json::array();
  for (const Loss& loss : forecast.losses)
    losses.push_back({{"name", loss.name}, {"seconds", loss.seconds}, {"setting", loss.setting}});
  for (const StageMemory& stage : forecast.memory) {
    memory.push_back({{"stage", stage.stage},
                      {"layers", stage.layers},
                      {"level", stage.level + forecast.fixed_bytes},
                      {"twice", stage.twice + forecast.fixed_bytes},
                      {"worst", stage.worst + forecast.fixed_bytes}});
  }
  for (const Sensitivity& rate : sensitivities)
    rates.push_back({{"rate", rate.rate}, {"seconds", rate.seconds}});
  return {{"ranks", forecast.layout.mesh.world()},
          {"replicas", forecast.layout.mesh.replicas},
          {"stages", forecast.layout.mesh.stages},
          {"data", forecast.layout.mesh.data},
          {"layers_per_stage", forecast.layout.layers_per_stage},
          {"head", forecast.layout.is_head_spread ? "SPREAD" : "LAST_STAGE"},
          {"microbatches", forecast.layout.microbatches},
          {"step_seconds", forecast.step},
          {"step_seconds_p5", forecast.step_low},
          {"step_seconds_p95", forecast.step_high},
          {"ideal_seconds", forecast.ideal},
          {"share_of_ideal", forecast.share_of_ideal()},
          {"tokens_per_second", forecast.tokens_per_second},
          {"breakdown",
           {{"work", work},
            {"idle", forecast.breakdown.idle},
            {"exposed", forecast.breakdown.exposed},
            {"after_last", forecast.breakdown.after_last}}},
          {"losses", losses},
          {"bytes", {{"intra_node", forecast.bytes[kIntraNode]}, {"inter_node", forecast.bytes[kInterNode]}}},
          {"rank_bytes", forecast.rank_bytes},
          {"memory", memory},
          {"sensitivities", rates},
          {"notes", forecast.notes},
          {"not_planned", forecast.not_planned},
          {"rows", {{"tag", Tag::Value_Name(forecast.rows_tag)}, {"source", forecast.rows_source}}},
          {"cluster", {{"path", cluster.path}, {"numbers", NumbersJson(cluster)}}},
          {"calibrated", CalibrationText(cluster).empty()}};
}

std::string ForecastText(const Forecast& forecast, const Cluster& cluster,
                         const std::vector<Sensitivity>& sensitivities) {
  const MeshShape& mesh = forecast.layout.mesh;
  std::string text = CalibrationText(cluster);
  if (!text.empty()) text += "\n";
  if (!forecast.not_planned.empty()) text += "not planned for: " + forecast.not_planned + "\n";
  text += Format(
      "Step: %s (%s to %s), %s tokens/s, %.3f of ideal (%s)\n"
      "%d ranks = %d pool replicas x %d stages x %d data ranks; layers %s%s; %d microbatches a rank\n"
      "Rows: %s (%s)\n",
      SecondsText(forecast.step).c_str(), SecondsText(forecast.step_low).c_str(),
      SecondsText(forecast.step_high).c_str(), FormatCount(std::llround(forecast.tokens_per_second)).c_str(),
      forecast.share_of_ideal(), SecondsText(forecast.ideal).c_str(), mesh.world(), mesh.replicas,
      mesh.stages, mesh.data, LayersText(forecast.layout.layers_per_stage).c_str(),
      forecast.layout.is_head_spread ? "; head on all stages" : "", forecast.layout.microbatches,
      forecast.rows_source.c_str(), Tag::Value_Name(forecast.rows_tag).c_str());
  for (const std::string& note : forecast.notes) text += "note: " + note + "\n";
  text += "\nA rank's step, mean of the ranks\n";
  const auto line = [&](const char* name, double seconds) {
    if (seconds > 0) {
      text += Format("  %-26s %10s  %5.1f %%\n", name, SecondsText(seconds).c_str(),
                     100 * seconds / forecast.step);
    }
  };
  for (int kind = 0; kind < kNumWorkKinds; ++kind)
    line(NameOf(static_cast<WorkKind>(kind)), forecast.breakdown.work[kind]);
  line("idle: for a late rank", forecast.breakdown.idle);
  line("exposed: for the wire", forecast.breakdown.exposed);
  line("ended before the last rank", forecast.breakdown.after_last);
  text += "\nLargest losses, and the setting that touches each\n";
  for (size_t i = 0; i < std::min(kMostLosses, forecast.losses.size()); ++i) {
    const Loss& loss = forecast.losses[i];
    text += Format("  %-30s %10s  %5.1f %%  %s\n", loss.name.c_str(), SecondsText(loss.seconds).c_str(),
                   100 * loss.seconds / forecast.step, loss.setting.c_str());
  }
  text += Format("\nBytes of a step, all ranks: %s within nodes, %s between nodes\n",
                 FormatBytes(std::llround(forecast.bytes[kIntraNode])).c_str(),
                 FormatBytes(std::llround(forecast.bytes[kInterNode])).c_str());
  text += MemoryText(forecast, cluster);
  if (!sensitivities.empty()) text += "\nA tenth faster would change the step by\n";
  for (size_t i = 0; i < std::min(kMostSensitivities, sensitivities.size()); ++i) {
    const Sensitivity& rate = sensitivities[i];
    text += Format("  %-34s %+6.2f %%\n", rate.rate.c_str(), -100 * rate.seconds / forecast.step);
  }
  const std::string assumed = AssumedText(cluster);
  if (!assumed.empty()) text += "\nAssumed, or of data sheets\n" + assumed;
  return text;
}

}  // namespace unipool
