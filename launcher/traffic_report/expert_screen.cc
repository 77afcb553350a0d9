// The screen of experts: who gets how many rows, and how uneven that makes ranks.
#include <algorithm>

#include "launcher/traffic_report/html_plots.h"
#include "launcher/traffic_report/report_html.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr size_t kMostInMap = 64, kMostInTable = 512;  // experts

// Rows of each expert in each layer.
std::string RowsOfExperts(const TrafficReport& report) {
  const ExpertRows& experts = report.experts;
  if (experts.num_steps == 0 || experts.layers.empty())
    return ParagraphHtml("These records do not tell the rows of single experts.", "soft");
  const std::vector<int> order = experts.Ordered();
  HeatMap map{.row_title = "expert", .column_title = "layer", .unit = "rows a step"};
  HtmlTable table{.head = {"expert", "rank", "rows a step", "x mean"}, .rows = {}};
  for (const int layer : experts.layers) {
    map.columns.push_back(Format("%d", layer));
    table.head.push_back(Format("layer %d", layer));
    table.head.push_back("x mean");
  }
  for (size_t n = 0; n < std::min(order.size(), kMostInTable); ++n) {
    const int expert = order[n];
    if (n < kMostInMap) {
      map.rows.push_back(Format("%d", expert));
      map.values.push_back(experts.rows[expert]);
    }
    std::vector<std::string> cells = {Format("%d", expert), experts.RanksText(expert),
                                      Format("%.1f", experts.RowsOf(expert)),
                                      Format("%.2f", experts.Ratio(expert))};
    for (size_t i = 0; i < experts.layers.size(); ++i) {
      cells.push_back(Format("%.1f", experts.rows[expert][i]));
      cells.push_back(Format("%.2f", experts.Ratio(expert, i)));
    }
    table.rows.push_back(cells);
  }
  std::string text = Format(
      "Rows of each expert in each layer, most rows first, steps %d to %d: choices in the forward, over all "
      "ranks.",
      experts.first, experts.last);
  if (order.size() > kMostInMap)
    text += Format(" The map has the first %d of %d experts, the table %d.", kMostInMap, order.size(),
                   table.rows.size());
  if (!experts.is_whole) text += " Experts with few rows of a layer are left out of it.";
  if (const int unused = experts.is_whole ? experts.NumUnused() : 0; unused > 0)
    text += Format(" %d experts get no rows.", unused);
  return "<h3>Rows by expert and layer</h3>\n" + ParagraphHtml(text) + HeatMapSvg(map) +
         FoldedTableHtml(table);
}

}  // namespace

HtmlScreen ExpertsScreen(const TrafficReport& report, const RunRecord* run) {
  const TrafficFigures& figures = report.figures;
  std::string body = RowsOfExperts(report);
  if (figures.rows.empty()) {
    body += NeedsRecordsHtml("Rows by layer and rank");
  } else {
    HeatMap map{.row_title = "layer",
                .column_title = std::string(report.UnitName()) + " that owns the experts",
                .unit = "rows a step"};
    HtmlTable table{.head = {"layer"}, .rows = {}};
    for (size_t r = 0; r < figures.rows.begin()->second.size(); ++r) {
      map.columns.push_back(Format("%d", r));
      table.head.push_back(Format("%s %d", report.UnitName(), r));
    }
    for (const auto& [layer, rows] : figures.rows) {
      map.rows.push_back(layer < 0 ? "none" : Format("%d", layer));
      map.values.push_back(rows);
      std::vector<std::string> cells = {map.rows.back()};
      for (const double count : rows) cells.push_back(Format("%.0f", count));
      table.rows.push_back(cells);
    }
    body += "<h3>Rows by layer and rank</h3>\n" +
            ParagraphHtml("Rows that experts of a rank receive, by layer of the model, both lanes.") +
            HeatMapSvg(map) + FoldedTableHtml(table);
  }
  if (const double leave = figures.RowsLeavingNode(); IsKnown(leave))
    body += ParagraphHtml(Format("%.1f %% of these rows leave their node.", 100 * leave));
  Chart chart{
      .title = "", .x_label = "step", .curves = {{.name = "mean"}, {.name = "p95"}, {.name = "largest"}}};
  HtmlTable table{.head = {"step", "mean", "p95", "largest"}, .rows = {}};
  for (const StepFigures& step : figures.steps) {
    if (!IsKnown(step.imbalance)) continue;
    const auto x = static_cast<double>(step.last);
    chart.curves[0].points.emplace_back(x, step.imbalance);
    chart.curves[1].points.emplace_back(x, step.imbalance_p95);
    if (IsKnown(step.imbalance_max)) chart.curves[2].points.emplace_back(x, step.imbalance_max);
    table.rows.push_back({Format("%d", step.last), Format("%.3f", step.imbalance),
                          Format("%.3f", step.imbalance_p95),
                          IsKnown(step.imbalance_max) ? Format("%.3f", step.imbalance_max) : "unknown"});
  }
  if (run && run->series().contains("receive_imbalance")) {
    Chart whole{.title = "", .x_label = "step", .curves = {{.name = "mean"}, {.name = "p95"}}};
    for (const auto& [step, value] : run->series().at("receive_imbalance"))
      whole.curves[0].points.emplace_back(step, value);
    if (run->series().contains("receive_imbalance_p95")) {
      for (const auto& [step, value] : run->series().at("receive_imbalance_p95"))
        whole.curves[1].points.emplace_back(step, value);
    }
    body += "<h3>Receive imbalance over the run</h3>\n" + LinesSvg(whole);
  }
  if (!table.rows.empty()) {
    body += "<h3>Receive imbalance: largest / mean of the rows that ranks receive, over the slots</h3>\n" +
            LinesSvg(chart) + FoldedTableHtml(table);
  }
  return {"experts", "Experts", body};
}

}  // namespace unipool
