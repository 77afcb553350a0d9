#include "launcher/traffic_report/report_html.h"

#include <algorithm>

#include "launcher/traffic_report/html_plots.h"
#include "launcher/traffic_report/report_text.h"
#include "runtime/format.h"

namespace unipool {

std::string MsText(double ns) {
  return IsKnown(ns) ? Format("%.3f", ns * 1e-6) : "unknown";
}

std::string ParagraphHtml(const std::string& text, const std::string& css) {
  return "<p" + (css.empty() ? "" : " class=\"" + css + "\"") + ">" + MarkupText(text) + "</p>\n";
}

std::string NeedsRecordsHtml(const std::string& what) {
  return ParagraphHtml(
      what +
          " needs records of every exchange, which this run has not for these steps: train with "
          "traffic.record=FULL, or write a number of steps into RUN_DIR/traffic/record while it runs.",
      "soft");
}

HtmlScreen VerdictScreen(const TrafficReport& report) {
  const TrafficFigures& figures = report.figures;
  const WaitFigures waits = figures.MeanWaits();
  std::string body =
      "<p><b>" + MarkupText(report.verdict.kind) + ".</b> " + MarkupText(report.verdict.reason) + "</p>\n";
  if (!report.verdict.causes.empty()) {
    HtmlTable table{.head = {"cause", "ms a step", "of the step"}, .rows = {}};
    std::string list = "<ol>\n";
    for (const WaitCause& cause : report.verdict.causes) {
      list += "<li><b>" + MarkupText(TimeText(cause.ns)) + " a step:</b> " + MarkupText(cause.what) +
              "<br><span class=\"soft\">to change: " + MarkupText(cause.change) + "</span></li>\n";
    }
    body += list + "</ol>\n";
  }
  std::vector<double> steps;
  for (const StepFigures& one : figures.steps) steps.push_back(one.step);
  const StackedBar bar =
      figures.is_split
          ? StackedBar{"step",
                       {figures.MeanCompute() * 1e-6, waits.idle * 1e-6, waits.idle_receiver * 1e-6,
                        (waits.exposed - waits.stalled) * 1e-6, waits.stalled * 1e-6},
                       waits.hidden * 1e-6}
          : StackedBar{"step", {figures.MeanCompute() * 1e-6, 0, 0, waits.blocked * 1e-6, 0}, 0};
  body += StackedBarsSvg({bar},
                         {{"compute", "compute"},
                          {"idle", "idle"},
                          {"receiver", "idle (receiver)"},
                          {"exposed", figures.is_split ? "exposed" : "blocked"},
                          {"stalled", "stalled"}},
                         {"hidden", IsKnown(waits.hidden) ? "hidden, beside it" : ""}, "ms");
  HtmlTable table{
      .head = {"a step, mean of ranks", "ms"},
      .rows = {
          {"step, p50", MsText(Quantile(steps, 0.5))},
          {"step, p95", MsText(Quantile(steps, 0.95))},
          {"compute", MsText(figures.MeanCompute())},
          {"idle (late senders)", MsText(figures.is_split ? waits.idle : kUnknown)},
          {"idle (late receivers)", MsText(figures.is_split ? waits.idle_receiver : kUnknown)},
          {"exposed", MsText(figures.is_split ? waits.exposed : kUnknown)},
          {"of it stalled", MsText(figures.is_split ? waits.stalled : kUnknown)},
          {"hidden" + std::string(figures.hidden_is_estimate ? " (estimate)" : ""), MsText(waits.hidden)}}};
  return {"verdict", "Verdict", body + TableHtml(table)};
}

HtmlScreen RanksScreen(const TrafficReport& report) {
  const TrafficFigures& figures = report.figures;
  const std::vector<int>& nodes = report.run.manifest.node_of_rank;
  std::vector<size_t> order(figures.ranks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const bool names_nodes = !report.options.by_node && nodes.size() == order.size();
  if (names_nodes)
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return nodes[a] < nodes[b]; });
  HtmlTable table{.head = {report.UnitName(), "compute ms", "idle ms", "idle (receiver) ms", "exposed ms",
                           "stalled ms", "hidden ms", "caused ms", "without a core ms", "MB to others",
                           "MB between nodes", "MB received"},
                  .rows = {}};
  const auto bars_of = [&](const std::vector<size_t>& chosen) {
    std::vector<StackedBar> bars;
    for (const size_t r : chosen) {
      const RankFigures& rank = figures.ranks[r];
      const WaitFigures& w = rank.waits;
      std::string label = Format("%s %d", report.UnitName(), r);
      if (names_nodes && *std::max_element(nodes.begin(), nodes.end()) > 0)
        label = Format("node %d, %s", nodes[r], label);
      StackedBar bar{label, {}, w.hidden * 1e-6};
      if (figures.is_split)
        bar.parts = {rank.Compute() * 1e-6, w.idle * 1e-6, w.idle_receiver * 1e-6,
                     (w.exposed - w.stalled) * 1e-6, w.stalled * 1e-6};
      else
        bar.parts = {rank.Compute() * 1e-6, 0, 0, w.blocked * 1e-6, 0};
      bars.push_back(bar);
    }
    return StackedBarsSvg(bars,
                          {{"compute", "compute"},
                           {"idle", "idle"},
                           {"receiver", "idle (receiver)"},
                           {"exposed", figures.is_split ? "exposed" : "blocked"},
                           {"stalled", "stalled"}},
                          {"hidden", IsKnown(figures.MeanWaits().hidden) ? "hidden" : ""}, "ms a step");
  };
  constexpr size_t kMostBars = 128;
  std::vector<size_t> sorted = order;
  std::stable_sort(sorted.begin(), sorted.end(), [&](size_t a, size_t b) {
    return figures.ranks[a].waits.blocked < figures.ranks[b].waits.blocked;
  });
  for (const size_t r : order) {
    const RankFigures& rank = figures.ranks[r];
    const WaitFigures& w = rank.waits;
    const bool split = figures.is_split;
    table.rows.push_back({Format("%d", r), MsText(rank.Compute()), MsText(split ? w.idle : kUnknown),
                          MsText(split ? w.idle_receiver : kUnknown), MsText(split ? w.exposed : kUnknown),
                          MsText(split ? w.stalled : kUnknown), MsText(w.hidden), MsText(rank.caused),
                          MsText(rank.off_core), Format("%.3f", rank.volume.Wire() / 1e6),
                          Format("%.3f", rank.volume.inter / 1e6),
                          Format("%.3f", rank.volume.received / 1e6)});
  }
  if (sorted.size() > kMostBars) {
    sorted.resize(kMostBars);
    order = sorted;
    std::sort(order.begin(), order.end());
  }
  std::string body =
      ChoiceHtml("order", {{"in order of rank", bars_of(order)}, {"least blocked first", bars_of(sorted)}});
  if (order.size() < figures.ranks.size())
    body += ParagraphHtml(Format("Shown are the %d that wait least.", order.size()), "soft");
  body += ParagraphHtml(
      "A rank that waits least is often the one that the others wait for. caused: idle time of others that "
      "is owed to it.",
      "soft");
  return {"ranks", "Ranks", body + FoldedTableHtml(table)};
}

std::string ReportHtml(const TrafficReport& report, const RunRecord* run, std::vector<HtmlScreen> screens) {
  const RecordedManifest& manifest = report.run.manifest;
  const std::string subtitle =
      Format("%s; %d ranks (%s), %d %s; run %s, program %s", SourceText(report), manifest.world,
             manifest.carrier.empty() ? "unknown carrier" : manifest.carrier, manifest.stages,
             manifest.stages == 1 ? "stage" : "stages", manifest.run_id, manifest.program_version);
  for (HtmlScreen& screen : std::vector<HtmlScreen>{
           VerdictScreen(report), RanksScreen(report), MatrixScreen(report), BlameScreen(report),
           LayersScreen(report), TimeLineScreen(report), ExpertsScreen(report, run), SizesScreen(report),
           WhatIfScreen(report), QualityScreen(report), RunScreen(run)}) {
    screens.push_back(std::move(screen));
  }
  return PageHtml("Traffic of " + report.run.run_dir, subtitle, screens, "");
}

}  // namespace unipool
