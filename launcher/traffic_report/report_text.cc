#include "launcher/traffic_report/report_text.h"

#include <algorithm>

#include "launcher/reports/shown_width.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr size_t kColumns = 80, kMostRows = 12, kMostMatrix = 8, kMostExperts = 6;

// `value` at the right of `width` columns, with three decimals, one or none: as many as fit.
std::string Column(double value, size_t width) {
  std::string text = IsKnown(value) ? Format("%.3f", value) : "-";
  if (text.size() > width) text = Format("%.1f", value);
  if (text.size() > width) text = Format("%.0f", value);
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

std::string Ms(double ns, size_t width) {
  return Column(ns * 1e-6, width);
}
std::string Mb(double bytes, size_t width) {
  return Column(bytes * 1e-6, width);
}

std::string WrappedLine(const std::string& line, size_t indent) {
  return Wrapped(line, kColumns, indent) + "\n";
}

// Waits that the filter leaves out.
std::string OtherText(const TrafficReport& report, double ns) {
  return report.options.filter.IsAll() ? "" : Format(" + waits for other exchanges %s", TimeText(ns));
}

std::string Head(const TrafficReport& report) {
  const RecordedManifest& manifest = report.run.manifest;
  const int nodes = 1 + *std::max_element(manifest.node_of_rank.begin(), manifest.node_of_rank.end());
  std::string text = Format("%s: %d %s on %d %s (%s), %d %s\n", report.run.run_dir, manifest.world,
                            manifest.world == 1 ? "rank" : "ranks", nodes, nodes == 1 ? "node" : "nodes",
                            manifest.carrier.empty() ? "?" : manifest.carrier, manifest.stages,
                            manifest.stages == 1 ? "stage" : "stages");
  text += SourceText(report) + "\n";
  const WaitFigures waits = report.figures.MeanWaits();
  std::vector<double> steps;
  for (const StepFigures& step : report.figures.steps) steps.push_back(step.step);
  const double step = report.figures.MeanStep();
  text += Format("step %s (%sp50 %s, p95 %s)\n", TimeText(step),
                 report.HasRecords() ? "" : "of windows: ", TimeText(Quantile(steps, 0.5)),
                 TimeText(Quantile(steps, 0.95)));
  const std::string compute = TimeText(report.figures.MeanCompute());
  const double other = step - waits.blocked - report.figures.MeanCompute();
  if (!report.figures.is_split)
    return text + Format("  = compute %s + blocked %s%s\n", compute, TimeText(waits.blocked),
                         OtherText(report, other));
  text += WrappedLine(
      Format("  = compute %s + idle %s + idle (receiver) %s + exposed %s%s", compute, TimeText(waits.idle),
             TimeText(waits.idle_receiver), TimeText(waits.exposed), OtherText(report, other)),
      4);
  if (IsStalled(waits))
    text += Format("  of exposed %s stalled: nobody moved the bytes\n", TimeText(waits.stalled));
  if (IsKnown(HiddenShare(waits)) && !HasNoWire(manifest))
    text += Format("  hidden %s: %.0f %% of the wire's time%s\n", TimeText(waits.hidden),
                   100 * HiddenShare(waits),
                   report.figures.hidden_is_estimate ? " (from the quickest exchanges)" : "");
  return text;
}

std::string VerdictLines(const TrafficReport& report) {
  std::string text = "\nVerdict" + std::string(report.options.filter.IsAll() ? "" : " on all exchanges") +
                     ": " + report.verdict.kind + "\n";
  text += WrappedLine("  " + report.verdict.reason, 2);
  int number = 0;
  for (const WaitCause& cause : report.verdict.causes) {
    text += WrappedLine(Format("%3d. %s a step: %s", ++number, TimeText(cause.ns), cause.what), 5);
    text += WrappedLine("     -> " + cause.change, 8);
  }
  return text;
}

std::string RankLines(const TrafficReport& report) {
  const TrafficFigures& figures = report.figures;
  std::vector<size_t> order(figures.ranks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const bool all = order.size() <= kMostRows;
  if (!all) {
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const RankFigures &x = figures.ranks[a], &y = figures.ranks[b];
      return IsKnown(x.caused) && x.caused != y.caused ? x.caused > y.caused
                                                       : x.waits.blocked < y.waits.blocked;
    });
    order.resize(kMostRows);
  }
  std::string text = Format("\n%s%s, ms a step\n", all ? "All " : "Ranks that others wait for most",
                            all ? std::string(report.UnitName()) + "s" : "");
  text += Format("%5s %9s %9s %9s %9s %9s %9s %9s\n", report.UnitName(), "compute", "idle", "idle-recv",
                 "exposed", "hidden", "caused", "MB sent");
  for (const size_t r : order) {
    const RankFigures& rank = figures.ranks[r];
    const WaitFigures& w = rank.waits;
    text += Format("%5d %s %s %s %s %s %s %s\n", r, Ms(rank.Compute(), 9), Ms(w.idle, 9),
                   Ms(w.idle_receiver, 9), Ms(figures.is_split ? w.exposed : kUnknown, 9), Ms(w.hidden, 9),
                   Ms(rank.caused, 9), Mb(rank.volume.Wire(), 9));
  }
  if (!figures.is_split) text += "blocked is not split into idle and exposed here\n";
  text += "caused: idle time of others that is owed to this one\n";
  return report.verdict.moved_blame.empty() ? text : text + WrappedLine(report.verdict.moved_blame, 0);
}

std::string MatrixLines(const TrafficReport& report) {
  const auto found = report.figures.matrices.find("");
  if (found == report.figures.matrices.end() || found->second.empty()) return "";
  const Matrix& matrix = found->second;
  double wire = 0, inter = 0, self = 0;
  for (const RankFigures& rank : report.figures.ranks) {
    wire += rank.volume.Wire();
    inter += rank.volume.inter;
    self += rank.volume.self;
  }
  std::string text =
      "\n" +
      WrappedLine(Format("Bytes a step: %.3f MB to other ranks (%.0f %% between nodes), %.3f MB to oneself",
                         wire / 1e6, wire > 0 ? 100 * inter / wire : 0, self / 1e6),
                  2);
  if (const double leave = report.figures.RowsLeavingNode(); IsKnown(leave) && inter > 0)
    text += Format("%.0f %% of the rows for experts leave their node\n", 100 * leave);
  if (matrix.size() < 2 || matrix.size() > kMostMatrix) return text;
  text += Format("MB a step, rows send, columns receive; (own blocks) are on no wire\n%5s", "");
  for (size_t j = 0; j < matrix.size(); ++j) text += Format(" %8d", j);
  text += "\n";
  for (size_t i = 0; i < matrix.size(); ++i) {
    text += Format("%5d", i);
    for (size_t j = 0; j < matrix.size(); ++j) {
      const double mb = matrix[i][j] / 1e6;
      const std::string own = mb < 1000 ? Format("(%.2f)", mb) : Format("(%.0f)", mb);
      text += " " + (i == j ? Format("%8s", own) : Column(mb, 8));
    }
    text += "\n";
  }
  return text;
}

std::string CellLines(const TrafficReport& report) {
  std::string text = "\nWhere ranks wait, ms a step, mean of ranks\n";
  text += Format("%-31s %-4s %5s %8s %8s %9s %8s\n", "operation", "lane", "layer", "idle", "exposed",
                 "MB a rank", "how many");
  const double world = std::max<double>(1, report.run.manifest.world);
  size_t count = 0;
  for (const auto& [key, cell] : CellsByBlocked(report.figures)) {
    if (++count > kMostRows) break;
    const auto& [communicator, operation, lane, layer] = key;
    const bool is_split = report.figures.is_split;
    text += Format("%-31s %-4s %5s %s %s %s %8.1f\n", FirstColumns(operation, 31),
                   FirstColumns(LaneName(lane), 4), layer < 0 ? "-" : Format("%d", layer),
                   Ms(is_split ? cell->waits.Idle() : cell->waits.blocked, 8),
                   Ms(is_split ? cell->waits.exposed : kUnknown, 8), Mb(cell->volume.Wire() / world, 9),
                   cell->volume.exchanges / world);
  }
  if (!report.figures.is_split) text += "idle: here all time that ranks were blocked\n";
  return text;
}

std::string ExpertLines(const TrafficReport& report) {
  const ExpertRows& experts = report.experts;
  if (experts.num_steps == 0 || experts.layers.empty() || experts.Sum() == 0) return "";
  const std::vector<int> order = experts.Ordered();
  const size_t shown = std::min(order.size(), kMostExperts);
  std::string text = Format("\n%s, steps %d to %d\n",
                            shown == order.size() ? "Experts, by their rows" : "Experts with the most rows",
                            experts.first, experts.last);
  text += Format("%7s %-22s %10s %8s %10s %10s %7s\n", "expert", "rank", "rows/step", "x mean", "in layer",
                 "rows/step", "x mean");
  for (size_t i = 0; i < shown; ++i) {
    const int expert = order[i];
    const size_t layer = experts.MostIn(expert);
    text +=
        Format("%7d %-22s %s %s %10d %s %s\n", expert, FirstColumns(experts.RanksText(expert), 22),
               Column(experts.RowsOf(expert), 10), Column(experts.Ratio(expert), 8), experts.layers[layer],
               Column(experts.rows[expert][layer], 10), Column(experts.Ratio(expert, layer), 7));
  }
  const int unused = experts.is_whole ? experts.NumUnused() : 0;
  text += Format("%d experts share %.1f rows a step of %d %s", experts.num_experts(), experts.Sum(),
                 experts.layers.size(), experts.layers.size() == 1 ? "layer" : "layers");
  return text + (unused > 0 ? Format("; %d get none\n", unused) : "\n");
}

std::string WhatIfLines(const TrafficReport& report) {
  const WhatIf& what_if = report.what_if;
  if (!IsKnown(what_if.measured)) return "";
  std::string text = Format("\nWhat if: PREDICTED (unchanged: %s; measured: %s)\n",
                            TimeText(what_if.replayed), TimeText(what_if.measured));
  const auto line = [&](const char* name, double ns) {
    if (IsKnown(ns))
      text += Format("  %-44s %10s  %+6.1f %%\n", name, TimeText(ns), 100 * (ns / what_if.replayed - 1));
  };
  line("a wire that takes no time", what_if.free_wire);
  line("ranks that compute equally long", what_if.level_ranks);
  line("both", what_if.both);
  line("between nodes as fast as inside them", what_if.inter_as_intra);
  return text;
}

std::string QualityLines(const TrafficReport& report) {
  std::string text = "\nHow good these numbers are\n";
  const Causality& causality = report.evidence.causality;
  if (report.HasRecords() && report.clocks->num_clocks() > 1) {
    text +=
        Wrapped(
            Format("  %d clocks, up to %.3f s and %.1f ppm apart, put together to +- %s of idle time a step; "
                   "%d of %d blocks would have arrived before they were sent (largest by %s)",
                   report.clocks->num_clocks(), report.clocks->LargestOffsetSeconds(),
                   1e6 * report.clocks->LargestDrift(), TimeText(report.figures.idle_uncertainty),
                   causality.num_violations, causality.num_checks,
                   TimeText(static_cast<double>(causality.largest_ns))),
            kColumns, 2) +
        "\n";
  }
  if (report.figures.first_use > 0)
    text += Format("  %.0f first exchanges of communicators are left out\n", report.figures.first_use);
  for (const std::string& note : report.notes) text += WrappedLine("  " + note, 2);
  return text == "\nHow good these numbers are\n" ? "" : text;
}

}  // namespace

std::string Wrapped(const std::string& text, size_t columns, size_t indent) {
  std::string result, line;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = text.find(' ', begin);
    if (end == text.npos) end = text.size();
    const std::string word = text.substr(begin, end - begin);
    if (!line.empty() && line.find_first_not_of(' ') != line.npos &&
        line.size() + 1 + word.size() > columns - 1) {
      result += line + "\n";
      line = std::string(indent, ' ') + word;
    } else {
      line += (begin == 0 ? "" : " ") + word;
    }
    begin = end + 1;
  }
  return result + line;
}

std::string SourceText(const TrafficReport& report) {
  const std::vector<StepFigures>& steps = report.figures.steps;
  if (steps.empty()) return "no steps";
  const char* what = report.HasRecords() ? "records of every exchange" : "sums";
  if (report.figures.num_steps == 1) return Format("%s of step %d", what, steps.front().first);
  return Format("%s of steps %d to %d (%.0f steps)", what, steps.front().first, steps.back().last,
                report.figures.num_steps);
}

std::vector<std::pair<CellKey, const CellFigures*>> CellsByBlocked(const TrafficFigures& figures) {
  std::vector<std::pair<CellKey, const CellFigures*>> cells;
  for (const auto& [key, cell] : figures.cells) cells.emplace_back(key, &cell);
  std::stable_sort(cells.begin(), cells.end(), [](const auto& a, const auto& b) {
    return a.second->waits.blocked > b.second->waits.blocked;
  });
  return cells;
}

const char* LaneName(int lane) {
  return lane == 0 ? "forward" : lane == 1 ? "backward" : "-";
}

double HiddenShare(const WaitFigures& waits) {
  const double wire = waits.hidden + waits.exposed - waits.stalled;
  return wire > 0 ? waits.hidden / wire : kUnknown;
}

std::string ReportText(const TrafficReport& report) {
  if (report.run.manifest.world == 1)
    return Head(report) + VerdictLines(report) + ExpertLines(report) + QualityLines(report);
  return Head(report) + VerdictLines(report) + RankLines(report) + CellLines(report) + MatrixLines(report) +
         ExpertLines(report) + WhatIfLines(report) + QualityLines(report);
}

}  // namespace unipool
