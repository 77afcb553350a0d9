// Screens of time: layers and slots, one step, what if, quality, the run's curves.
#include <algorithm>

#include "launcher/traffic_report/html_plots.h"
#include "launcher/traffic_report/report_html.h"
#include "launcher/traffic_report/report_text.h"
#include "launcher/traffic_report/trace_file.h"
#include "runtime/format.h"

namespace unipool {
namespace {

std::string LayerMaps(const TrafficFigures& figures) {
  std::map<std::pair<int, int>, WaitFigures> waits;  // (lane, layer)
  std::map<int, bool> layers;
  for (const auto& [key, cell] : figures.cells) {
    const auto& [communicator, operation, lane, layer] = key;
    waits[{lane, layer}].Add(cell.waits);
    layers[layer] = true;
  }
  std::vector<HtmlChoice> choices;
  const auto map_of = [&](const std::string& name, auto value) {
    HeatMap map{.row_title = "lane",
                .column_title = "layer of the model; none: sums of gradients and the like",
                .unit = "ms a step"};
    for (const auto& [layer, is_there] : layers)
      map.columns.push_back(layer < 0 ? "none" : Format("%d", layer));
    for (const int lane : {0, 1, -1}) {
      map.rows.push_back(LaneName(lane));
      map.values.emplace_back();
      for (const auto& [layer, is_there] : layers) {
        const auto found = waits.find({lane, layer});
        map.values.back().push_back(found == waits.end() ? kUnknown : value(found->second) * 1e-6);
      }
    }
    choices.push_back({name, HeatMapSvg(map)});
  };
  if (figures.is_split) {
    map_of("idle", [](const WaitFigures& w) { return w.Idle(); });
    map_of("exposed", [](const WaitFigures& w) { return w.exposed; });
  } else {
    map_of("blocked", [](const WaitFigures& w) { return w.blocked; });
  }
  return ChoiceHtml("layers", choices);
}

std::string SlotMaps(const TrafficFigures& figures) {
  int times = 0, stages = 0;
  for (const auto& [key, slot] : figures.slots) {
    times = std::max(times, key.first + 1);
    stages = std::max(stages, key.second + 1);
  }
  std::vector<HtmlChoice> choices;
  const auto map_of = [&](const std::string& name, const std::string& unit, auto value) {
    HeatMap map{.row_title = "stage", .column_title = "time of the slot schedule", .unit = unit};
    for (int time = 0; time < times; ++time) map.columns.push_back(Format("%d", time));
    for (int stage = 0; stage < stages; ++stage) {
      map.rows.push_back(Format("%d", stage));
      map.values.emplace_back();
      for (int time = 0; time < times; ++time) {
        const auto found = figures.slots.find({time, stage});
        map.values.back().push_back(found == figures.slots.end() ? kUnknown : value(found->second));
      }
    }
    choices.push_back({name, HeatMapSvg(map)});
  };
  map_of("idle", "ms", [](const SlotFigures& s) { return s.idle * 1e-6; });
  map_of("exposed", "ms", [](const SlotFigures& s) { return s.exposed * 1e-6; });
  map_of("largest receive imbalance", "x the mean", [](const SlotFigures& s) { return s.imbalance; });
  HtmlTable table{.head = {"time, stage", "idle ms", "exposed ms", "imbalance"}, .rows = {}};
  for (const auto& [key, slot] : figures.slots) {
    table.rows.push_back({Format("%d, %d", key.first, key.second), MsText(slot.idle), MsText(slot.exposed),
                          IsKnown(slot.imbalance) ? Format("%.2f", slot.imbalance) : "-"});
  }
  return ChoiceHtml("slots", choices) + FoldedTableHtml(table);
}

constexpr size_t kMostRanks = 24, kMostArrows = 24;

// Ranks that caused most idle time and ranks that waited most, in order of rank.
std::vector<int> RanksToShow(const TrafficReport& report) {
  const auto world = static_cast<size_t>(report.run.manifest.world);
  std::vector<int> ranks;
  for (size_t r = 0; r < world; ++r) ranks.push_back(static_cast<int>(r));
  if (world <= kMostRanks || report.figures.ranks.size() != world) {
    ranks.resize(std::min(world, kMostRanks));
    return ranks;
  }
  std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) {
    return report.figures.ranks[a].waits.blocked < report.figures.ranks[b].waits.blocked;
  });
  ranks.erase(ranks.begin() + kMostRanks / 2, ranks.end() - kMostRanks / 2);
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

TimeLine LineOf(const TrafficReport& report, const JoinedStep& step, const std::vector<int>& ranks) {
  enum Css { kForward, kBackward, kOther, kIdle, kExposed, kStart };
  const int64_t begin = *std::min_element(step.begin.begin(), step.begin.end());
  const int64_t end = *std::max_element(step.end.begin(), step.end.end());
  const auto ms = [&](int64_t ns) { return static_cast<double>(ns - begin) * 1e-6; };
  TimeLine line{.length = ms(end), .unit = "ms"};
  line.classes = {{"fa", "compute, forward lane"}, {"fc", "compute, backward lane"},
                  {"compute", "compute, no lane"}, {"idle", "idle"},
                  {"exposed", "exposed"},          {"receiver", "inside Start: bytes are given away"}};
  std::map<int, size_t> row_of;
  for (const int rank : ranks) {
    row_of[rank] = line.rows.size();
    line.labels.push_back(Format("rank %d", rank));
    line.rows.emplace_back();
    for (const ComputeRange& range : ComputeRanges(report.traffic, step, rank))
      line.rows.back().push_back({ms(range.begin), ms(range.end),
                                  range.lane == 0   ? kForward
                                  : range.lane == 1 ? kBackward
                                                    : kOther});
  }
  std::vector<std::pair<int64_t, TimeArrow>> arrows;
  for (const JoinedExchange& exchange : report.traffic.exchanges) {
    if (exchange.step != step.step) continue;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      const auto row = row_of.find(report.traffic.WorldRank(exchange, static_cast<int>(p)));
      if (row == row_of.end() || part.exposed < 0) continue;
      const int64_t after = part.wait_enter + part.idle + part.idle_receiver;
      auto& ranges = line.rows[row->second];
      if (part.start_done > part.start && part.start >= 0)
        ranges.push_back({ms(part.start), ms(part.start_done), kStart});
      if (after > part.wait_enter) ranges.push_back({ms(part.wait_enter), ms(after), kIdle});
      if (part.wait_leave > after) ranges.push_back({ms(after), ms(part.wait_leave), kExposed});
      const auto late = row_of.find(part.cause);
      if (late == row_of.end() || after == part.wait_enter) continue;
      arrows.push_back(
          {after - part.wait_enter,
           {ms(after), ms(after), static_cast<int>(late->second), static_cast<int>(row->second)}});
    }
  }
  std::stable_sort(arrows.begin(), arrows.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = 0; i < std::min(kMostArrows, arrows.size()); ++i) line.arrows.push_back(arrows[i].second);
  return line;
}

}  // namespace

HtmlScreen LayersScreen(const TrafficReport& report) {
  const TrafficFigures& figures = report.figures;
  if (report.run.manifest.world == 1)
    return {"layers", "Layers and slots",
            ParagraphHtml("One rank exchanges nothing with others: no layer and no slot waits.", "soft")};
  std::string body = "<h3>Layer and lane</h3>\n" + LayerMaps(figures);
  HtmlTable table{.head = {"operation", "communicator", "lane", "layer", "idle ms", "exposed ms",
                           "blocked ms", "MB a rank", "between nodes", "exchanges a rank", "blocked longest"},
                  .rows = {}};
  const double world = std::max(1, report.run.manifest.world);
  for (const auto& [key, cell] : CellsByBlocked(figures)) {
    const auto& [communicator, operation, lane, layer] = key;
    const double wire = cell->volume.Wire();
    table.rows.push_back({operation, communicator, LaneName(lane), layer < 0 ? "-" : Format("%d", layer),
                          MsText(figures.is_split ? cell->waits.Idle() : kUnknown),
                          MsText(figures.is_split ? cell->waits.exposed : kUnknown),
                          MsText(cell->waits.blocked), Format("%.3f", wire / world / 1e6),
                          Format("%.0f %%", wire > 0 ? 100 * cell->volume.inter / wire : 0),
                          Format("%.1f", cell->volume.exchanges / world),
                          cell->worst_rank < 0 ? "-" : Format("rank %d", cell->worst_rank)});
  }
  body += FoldedTableHtml(table, "Table, mean of ranks, longest blocked first");
  body += "<h3>Slot and stage</h3>\n";
  body += figures.slots.empty() ? NeedsRecordsHtml("Waiting by slot") : SlotMaps(figures);
  return {"layers", "Layers and slots", body};
}

HtmlScreen TimeLineScreen(const TrafficReport& report) {
  const std::string title = "One step";
  if (!report.HasRecords()) return {"step", title, NeedsRecordsHtml("The time line of a step")};
  std::vector<StepFigures> steps = report.figures.steps;
  std::sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  std::vector<std::pair<std::string, int64_t>> chosen = {
      {"median step", steps[(steps.size() - 1) / 2].first}};
  if (steps.size() > 1) {
    chosen.push_back({"slowest step", steps.back().first});
    chosen.push_back({"fastest step", steps.front().first});
  }
  const std::vector<int> ranks = RanksToShow(report);
  std::vector<HtmlChoice> choices;
  for (const auto& [name, step] : chosen) {
    for (const JoinedStep& joined : report.traffic.steps) {
      if (joined.step != step) continue;
      if (*std::min_element(joined.begin.begin(), joined.begin.end()) < 0)
        return {"step", title,
                ParagraphHtml("Clocks of hosts were never compared: there is no common time line.", "soft")};
      const TimeLine line = LineOf(report, joined, ranks);
      HtmlTable table{.head = {"rank", "forward ms", "backward ms", "other compute ms", "idle ms",
                               "exposed ms", "in Start ms"},
                      .rows = {}};
      for (size_t r = 0; r < line.rows.size(); ++r) {
        std::vector<double> sums(line.classes.size(), 0);
        for (const TimeRange& range : line.rows[r]) sums[range.css] += range.end - range.begin;
        table.rows.push_back({line.labels[r]});
        for (const double sum : sums) table.rows.back().push_back(Format("%.3f", sum));
      }
      choices.push_back({Format("%s (%d): %s", name, step, TimeText(line.length * 1e6)),
                         TimeLineSvg(line) + FoldedTableHtml(table)});
    }
  }
  std::string body = ChoiceHtml("step", choices);
  if (ranks.size() < static_cast<size_t>(report.run.manifest.world))
    body += ParagraphHtml("Shown are the ranks that wait least and those that wait most.", "soft");
  return {
      "step", title,
      body + ParagraphHtml(
                 "Lines lead from the rank that was late to the end of the idle time (dot), of the longest "
                 "ones. --trace writes all of it for ui.perfetto.dev.",
                 "soft")};
}

HtmlScreen WhatIfScreen(const TrafficReport& report) {
  const WhatIf& what_if = report.what_if;
  if (!IsKnown(what_if.measured)) return {"whatif", "What if", NeedsRecordsHtml("A prediction")};
  std::vector<StackedBar> bars;
  HtmlTable table{.head = {"PREDICTED", "ms a step", "to the replay"}, .rows = {}};
  const auto add = [&](const std::string& name, double ns) {
    if (!IsKnown(ns)) return;
    bars.push_back({name, {ns * 1e-6}, 0});
    table.rows.push_back({name, MsText(ns), Format("%+.1f %%", 100 * (ns / what_if.replayed - 1))});
  };
  add("measured", what_if.measured);
  add("replay as it was", what_if.replayed);
  add("free wire", what_if.free_wire);
  add("level ranks", what_if.level_ranks);
  add("both", what_if.both);
  add("inter as intra", what_if.inter_as_intra);
  const std::string body = ParagraphHtml(
      "PREDICTED by replaying the recorded steps: every rank computes as it did, an exchange ends when its "
      "ranks have "
      "started and its bytes have moved. The replay with nothing changed shows how good that is.");
  return {"whatif", "What if",
          body + StackedBarsSvg(bars, {{"compute", "step"}}, {"", ""}, "ms") + TableHtml(table)};
}

HtmlScreen QualityScreen(const TrafficReport& report) {
  const Causality& causality = report.evidence.causality;
  const RecordedManifest& manifest = report.run.manifest;
  const WaitFigures waits = report.figures.MeanWaits();
  HtmlTable table{.head = {"what", "how it is"}, .rows = {}};
  const auto add = [&](const std::string& what, const std::string& how) {
    table.rows.push_back({what, how});
  };
  add("shown", SourceText(report));
  add("windows of the run", Format("%d", report.run.windows.size()));
  add("recorded", manifest.record.empty() ? "unknown" : manifest.record);
  add("exchanges that found no room (dropped)", Format("%.0f", report.figures.dropped));
  add("first exchanges of communicators, left out", Format("%.0f", report.figures.first_use));
  if (report.HasRecords()) {
    const double difference = waits.blocked - waits.Idle() - waits.exposed;
    add("exchanges that lack a rank's record", Format("%d", report.traffic.incomplete));
    add("sent and received bytes agree, rank by rank", "yes");
    add("blocked - idle - exposed", MsText(difference) + " ms");
    add("clocks", report.clocks->num_clocks() == 1
                      ? (manifest.clock == "virtual" ? "virtual time" : "one")
                      : Format("%d, up to %.6f s and %.1f ppm apart", report.clocks->num_clocks(),
                               report.clocks->LargestOffsetSeconds(), 1e6 * report.clocks->LargestDrift()));
    add("what clocks leave open of idle", "+- " + TimeText(report.figures.idle_uncertainty) + " a step");
    add("blocks that arrived before they were sent",
        Format("%d of %d; largest %s", causality.num_violations, causality.num_checks,
               TimeText(static_cast<double>(causality.largest_ns))));
    for (const auto& [clock, bounds] : causality.of_clock) {
      if (bounds.above_ns == INT64_MAX || bounds.below_ns == INT64_MAX) continue;
      add(Format("offset of clock %d, bounded by its exchanges", clock),
          Format("-%s to +%s", TimeText(static_cast<double>(bounds.above_ns)),
                 TimeText(static_cast<double>(bounds.below_ns))));
    }
    const ClockFree& clock_free = report.evidence.clock_free;
    if (clock_free.num_exchanges > 0)
      add(Format("moving time of %d exchanges with level sizes", clock_free.num_exchanges),
          Format("%s by clocks, at most %s without them", TimeText(clock_free.by_clocks_ns),
                 TimeText(clock_free.without_ns)));
  }
  if (!report.windows.ranks.empty() && report.HasRecords())
    add("step: recorded ones, and all of the windows",
        TimeText(report.figures.MeanStep()) + ", " + TimeText(report.windows.MeanStep()));
  std::string body = TableHtml(table);
  if (report.figures.dropped > 0)
    body = ParagraphHtml(Format("%.0f exchanges were dropped.", report.figures.dropped), "red") + body;
  for (const std::string& note : report.notes) body += ParagraphHtml(note);
  return {"quality", "Quality", body};
}

HtmlScreen RunScreen(const RunRecord* run) {
  struct Plot {
    const char* title;
    std::vector<const char*> metrics;
  };
  const Plot plots[] = {{"Loss, nats", {"loss", "valid_loss"}},
                        {"Learning rate", {"lr"}},
                        {"Balance: largest load of an expert / mean - 1", {"max_violation"}},
                        {"Balancing loss / its value at perfect balance", {"pool_loss_over_balance"}},
                        {"Dead experts", {"dead_experts"}},
                        {"Share of tokens and layers, and of choices (ties), without a positive score",
                         {"zero_score_share", "tie_share"}},
                        {"Hidden share of the wire's time", {"hidden_share"}},
                        {"Idle and exposed, ms a step", {"idle_ms", "exposed_ms"}}};
  std::string body;
  for (const Plot& plot : plots) {
    Chart chart{.title = plot.title, .x_label = "step"};
    HtmlTable table{.head = {"step"}, .rows = {}};
    for (const char* metric : plot.metrics) {
      if (!run || !run->series().contains(metric)) continue;
      Curve curve{.name = metric};
      for (const auto& [step, value] : run->series().at(metric))
        curve.points.emplace_back(static_cast<double>(step), value);
      chart.curves.push_back(curve);
    }
    std::erase_if(chart.curves, [](const Curve& curve) {
      return std::none_of(curve.points.begin(), curve.points.end(),
                          [](const auto& point) { return IsKnown(point.second); });
    });
    if (chart.curves.empty()) continue;
    table.head.push_back(chart.curves[0].name);
    const CurvePoints& points = chart.curves[0].points;
    for (size_t i = 0; i < points.size(); i += std::max<size_t>(1, points.size() / 50))
      table.rows.push_back({Format("%.0f", points[i].first), Format("%.6g", points[i].second)});
    body += "<h3>" + MarkupText(plot.title) + "</h3>\n" + LinesSvg(chart) + FoldedTableHtml(table);
  }
  if (body.empty()) body = ParagraphHtml("The folder has no metrics.jsonl.", "soft");
  return {"run", "Run", body};
}

}  // namespace unipool
