#include "launcher/plan/forecast_html.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "launcher/config.h"
#include "launcher/plan/forecast_text.h"
#include "launcher/plan/forecast_walk.h"
#include "launcher/reports/readable_number.h"
#include "launcher/traffic_report/html_page.h"
#include "launcher/traffic_report/html_plots.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr int kTimeBins = 60, kMostStages = 16, kMostScaledRanks = 4096;

std::string Paragraph(const std::string& text) {
  return "<p>" + MarkupText(text) + "</p>\n";
}

HtmlScreen StepScreen(const Forecast& forecast, const Cluster& cluster) {
  const Breakdown& parts = forecast.breakdown;
  const double compute = std::accumulate(parts.work.begin(), parts.work.end(), 0.0);
  std::string body = Paragraph(CalibrationText(cluster));
  if (!forecast.not_planned.empty()) body += Paragraph("not planned for: " + forecast.not_planned);
  body += Paragraph(Format("%s a step (%s to %s), %.3f of ideal", SecondsText(forecast.step).c_str(),
                           SecondsText(forecast.step_low).c_str(), SecondsText(forecast.step_high).c_str(),
                           forecast.share_of_ideal()));
  body += StackedBarsSvg(
      {{"step", {1e3 * compute, 1e3 * (parts.idle + parts.after_last), 1e3 * parts.exposed}, 0}},
      {{"compute", "compute"}, {"idle", "idle"}, {"exposed", "exposed"}}, {"hidden", ""}, "ms");
  HtmlTable losses{.head = {"loss", "time", "setting"}, .rows = {}};
  for (const Loss& loss : forecast.losses)
    losses.rows.push_back({loss.name, SecondsText(loss.seconds), loss.setting});
  HtmlTable memory{.head = {"stage", "level rows", "twice", "all"}, .rows = {}};
  for (const StageMemory& stage : forecast.memory) {
    memory.rows.push_back({std::to_string(stage.stage), FormatBytes(stage.level + forecast.fixed_bytes),
                           FormatBytes(stage.twice + forecast.fixed_bytes),
                           FormatBytes(stage.worst + forecast.fixed_bytes)});
  }
  return {"step", "Step", body + TableHtml(losses) + TableHtml(memory)};
}

// How busy the first rank of each stage is over the step.
HtmlScreen StagesScreen(const StepPlan& plan, const RoutedRows& rows) {
  WalkOptions options = OutlineWalkFor(plan.mesh, rows);
  options.keeps_pieces = true;
  const StepTimes times = WalkStep(plan, rows, options);
  const int stages = std::min(plan.mesh.stages, kMostStages);
  HeatMap map{
      .rows = {}, .columns = {}, .values = {}, .row_title = "stage", .column_title = "time", .unit = ""};
  for (int bin = 0; bin < kTimeBins; ++bin)
    map.columns.push_back(SecondsText(times.seconds * bin / kTimeBins));
  for (int stage = 0; stage < stages; ++stage) {
    map.rows.push_back(std::to_string(stage));
    std::vector<double> busy(kTimeBins, 0);
    const int rank = RankOf(plan.mesh, {.stage = stage});
    const double width = times.seconds / kTimeBins;
    for (const WalkedPiece& piece : times.pieces) {
      if (times.ranks[piece.walked] != rank) continue;
      for (int bin = static_cast<int>(piece.begin / width);
           bin < kTimeBins && bin * width < piece.begin + piece.seconds; ++bin) {
        const double begin = std::max(piece.begin, bin * width);
        const double end = std::min(piece.begin + piece.seconds, (bin + 1) * width);
        busy[bin] += std::max(0.0, end - begin) / width;
      }
    }
    map.values.push_back(std::move(busy));
  }
  return {"stages", "Stages over time",
          Paragraph("Share of the time in which the first rank of each stage computes.") + HeatMapSvg(map)};
}

// The same work for each rank on more and more of them: data ranks and batch grow together.
HtmlScreen ScalingScreen(const Config& config, int ranks, const Cluster& cluster) {
  HtmlTable table{.head = {"ranks", "step", "tokens/s", "of ideal"}, .rows = {}};
  const int part = config.parallel().stages() * config.parallel().pool_replicas();
  for (int64_t count = part; count <= kMostScaledRanks; count *= 2) {
    Config scaled = config;
    const int64_t batch = config.train().global_batch() * count / ranks;
    scaled.mutable_parallel()->set_ranks(static_cast<int>(count));
    scaled.mutable_train()->set_global_batch(static_cast<int>(std::max<int64_t>(1, batch)));
    try {
      ValidateConfig(scaled, static_cast<int>(count));
      CheckForPlan(cluster, static_cast<int>(count));
      const MeshShape mesh = MeshShapeOf(scaled.parallel(), static_cast<int>(count));
      const double rows =
          double{1} * scaled.train().micro_batch() * scaled.model().seq_length() * scaled.moe().top_k();
      const Forecast forecast =
          MakeForecast(scaled, static_cast<int>(count), cluster, FindRows({}, scaled, mesh, rows));
      table.rows.push_back({std::to_string(count), SecondsText(forecast.step),
                            FormatCount(std::llround(forecast.tokens_per_second)),
                            Format("%.3f", forecast.share_of_ideal())});
    } catch (const UserError& error) {
      table.rows.push_back({std::to_string(count), "-", "-", "-"});
    }
  }
  return {"scaling", "More ranks",
          Paragraph("As much work for each rank: data ranks and global batch grow together; level rows.") +
              TableHtml(table)};
}

}  // namespace

std::string ForecastHtml(const Forecast& forecast, const Config& config, int ranks, const Cluster& cluster,
                         const RowsFound& rows) {
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  const std::string subtitle = Format("%d ranks, %d stages, %d pool replicas; %s", ranks, mesh.stages,
                                      mesh.replicas, cluster.path.c_str());
  return PageHtml("Plan of a step", subtitle,
                  {StepScreen(forecast, cluster), StagesScreen(plan, *rows.draws[0]),
                   ScalingScreen(config, ranks, cluster)},
                  "");
}

}  // namespace unipool
