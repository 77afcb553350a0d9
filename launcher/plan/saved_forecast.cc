#include "launcher/plan/saved_forecast.h"

#include <filesystem>
#include <fstream>
#include <optional>

#include "launcher/plan/forecast_check.h"
#include "launcher/plan/forecast_text.h"
#include "launcher/reports/run_record.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

// "parallel.stages (plan 2, run 1), ..." of settings that differ; "": none.
std::string DifferencesText(const Json& planned, const Json& run) {
  std::string text;
  for (const auto& [name, value] : run.items()) {
    const Json of_plan = planned.value(name, Json());
    if (of_plan == value) continue;
    text += Format("%s%s (plan %s, run %s)", text.empty() ? "" : ", ", name.c_str(),
                   of_plan.is_null() ? "has none" : of_plan.dump().c_str(), value.dump().c_str());
  }
  return text;
}

std::optional<double> MeasuredSeconds(const std::string& run_dir) {
  try {
    RunRecord run(run_dir);
    run.Read();
    return MedianStepOf(run);
  } catch (const UserError&) {
    return {};
  }
}

}  // namespace

Json LayoutSettings(const Config& config, int ranks) {
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const SlotSchedule schedule = TrainingSchedule(config, mesh);
  const ModelConfig& model = config.model();
  const TrainConfig& train = config.train();
  return {{"device", DeviceType::Value_Name(config.device())},
          {"model.layers", model.layers()},
          {"model.hidden", model.hidden()},
          {"model.seq_length", model.seq_length()},
          {"moe.experts", config.moe().experts()},
          {"moe.width", config.moe().width()},
          {"moe.top_k", config.moe().top_k()},
          {"train.global_batch", train.global_batch()},
          {"train.micro_batch", train.micro_batch()},
          {"train.precision", TrainConfig::Precision_Name(train.precision())},
          {"train.recompute_experts", train.recompute_experts()},
          {"train.recompute_attention", train.recompute_attention()},
          {"parallel.ranks", ranks},
          {"parallel.pool_replicas", mesh.replicas},
          {"parallel.stages", mesh.stages},
          {"parallel.layers_per_stage", schedule.layers_per_stage()},
          {"parallel.head", schedule.head_place() == HeadPlace::kSpread ? "SPREAD" : "LAST_STAGE"},
          {"parallel.experts", ParallelConfig::Experts_Name(config.parallel().experts())},
          {"parallel.lanes", ParallelConfig::Lanes_Name(config.parallel().lanes())}};
}

std::string SavedForecastText(const Config& config, int ranks) {
  const std::string path = config.run_dir() + "/" + kSavedForecast;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return "";
  std::ifstream file(path);
  const Json saved = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  const auto has = [&](const char* name) { return saved.is_object() && saved.contains(name); };
  if (!has("step_seconds") || !saved["step_seconds"].is_number() || !has("settings") ||
      !saved["settings"].is_object()) {
    return path + ": is no plan that can be read; `unipool plan --save` writes one before a run";
  }
  const std::string differences = DifferencesText(saved["settings"], LayoutSettings(config, ranks));
  if (!differences.empty()) {
    return "planned before the run was another layout, so that the step is not compared: " + differences +
           " (" + path + ")";
  }
  const std::optional<double> seconds = MeasuredSeconds(config.run_dir());
  if (!seconds) return "";
  const double planned = saved["step_seconds"];
  return Format("planned before the run: %s a step; measured: %s (plan %+.1f %%)",
                SecondsText(planned).c_str(), SecondsText(*seconds).c_str(), 100 * (planned / *seconds - 1));
}

}  // namespace unipool
