// Screens of bytes: matrix, who made whom wait, sizes.
#include <algorithm>
#include <bit>
#include <cmath>

#include "launcher/traffic_report/html_plots.h"
#include "launcher/traffic_report/report_html.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr size_t kFewestRates = 5;    // exchanges, for a point of a curve
constexpr size_t kMostCells = 32;     // of a matrix' side, as a table
constexpr int kMostSteps = 8;         // with a matrix of their own
constexpr size_t kAllCells = 20'000;  // of the matrices of layers and of steps, so that pages stay small

// Neighbours put together until at most `most` are left.
Matrix Coarse(const Matrix& matrix, size_t most, size_t& group) {
  group = (matrix.size() + most - 1) / most;
  if (group <= 1) return matrix;
  const size_t size = (matrix.size() + group - 1) / group;
  Matrix coarse(size, std::vector<double>(size, 0));
  for (size_t i = 0; i < matrix.size(); ++i) {
    for (size_t j = 0; j < matrix.size(); ++j) coarse[i / group][j / group] += matrix[i][j];
  }
  return coarse;
}

struct MatrixWords {
  double scale = 1;  // of the numbers that are shown
  bool own_is_apart = true, has_sums = true;
  std::string corner = "from \\ to";
};

// A table whose cells are as dark as their values.
std::string MatrixTable(const Matrix& whole, const MatrixWords& words) {
  const bool own_is_apart = words.own_is_apart, has_sums = words.has_sums;
  const double scale = words.scale;
  size_t group = 1;
  const Matrix matrix = Coarse(whole, kMostCells, group);
  double most = 0;
  for (size_t i = 0; i < matrix.size(); ++i) {
    for (size_t j = 0; j < matrix.size(); ++j) {
      if (i != j || !own_is_apart || group > 1) most = std::max(most, matrix[i][j]);
    }
  }
  const auto name = [&](size_t i) {
    return group == 1 ? Format("%d", i)
                      : Format("%d..%d", i * group, std::min(whole.size(), (i + 1) * group) - 1);
  };
  std::string html = "<div class=\"wide\"><table><thead><tr><th>" + words.corner + "</th>";
  for (size_t j = 0; j < matrix.size(); ++j) html += "<th>" + name(j) + "</th>";
  html += std::string(has_sums ? "<th>sum</th>" : "") + "</tr></thead><tbody>\n";
  std::vector<double> columns(matrix.size(), 0);
  for (size_t i = 0; i < matrix.size(); ++i) {
    double row = 0;
    html += "<tr><td>" + name(i) + "</td>";
    for (size_t j = 0; j < matrix.size(); ++j) {
      const double value = matrix[i][j];
      if (i == j && own_is_apart && group == 1) {
        html += Format("<td class=\"own\">%.3f</td>", value * scale);
        continue;
      }
      row += value;
      columns[j] += value;
      html += Format("<td style=\"background:color-mix(in srgb,var(--heat) %.0f%%,transparent)\">%.3f</td>",
                     most > 0 ? 70 * value / most : 0, value * scale);
    }
    html += (has_sums ? Format("<td>%.3f</td>", row * scale) : "") + "</tr>\n";
  }
  if (!has_sums) return html + "</tbody></table></div>\n";
  html += "<tr><td>sum</td>";
  for (const double column : columns) html += Format("<td>%.3f</td>", column * scale);
  return html + "<td></td></tr></tbody></table></div>\n";
}

// Of one lane or layer: what the filter of a report would leave. step >= 0: of this one alone.
Matrix MatrixOf(const TrafficReport& report, const ExchangeFilter& filter, int64_t step = -1) {
  const size_t world = report.run.manifest.world;
  Matrix matrix(world, std::vector<double>(world, 0));
  const double each = step >= 0 ? 1 : 1 / std::max(1.0, report.figures.num_steps);
  for (const JoinedExchange& exchange : report.traffic.exchanges) {
    if (step >= 0 && exchange.step != step) continue;
    const std::string& operation = report.traffic.operations[exchange.operation];
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || !filter.Takes(operation, exchange.lane, part.recorded->record.layer)) continue;
      if (part.recorded->record.head.flags & ExchangeRecord::kFirstUse) continue;
      const int rank = report.traffic.WorldRank(exchange, static_cast<int>(p));
      matrix[rank][rank] += static_cast<double>(part.recorded->record.bytes_self) * each;
      for (const PeerBytes& peer : part.recorded->peers)
        matrix[rank][report.traffic.WorldRank(exchange, peer.peer)] +=
            static_cast<double>(peer.bytes_to) * each;
    }
  }
  return matrix;
}

// How long blocks were under way at most, ns a step, and at which rate they came at least, bytes/ns. That is
// from when both ranks had started to the end of the wait, in exchanges whose bytes the receiver waited for.
// Nothing where it waited for none.
struct Transfers {
  Matrix ns, rate;
};
Transfers TransfersOf(const TrafficReport& report) {
  const size_t world = report.run.manifest.world;
  const Matrix zero(world, std::vector<double>(world, 0));
  Transfers sum{.ns = zero, .rate = zero};
  double all = 0;
  for (const JoinedExchange& exchange : report.traffic.exchanges) {
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.exposed <= 0 || part.start < 0) continue;
      if (part.recorded->record.head.flags & ExchangeRecord::kFirstUse) continue;
      const int to = report.traffic.WorldRank(exchange, static_cast<int>(p));
      for (const PeerBytes& peer : part.recorded->peers) {
        const int64_t start = exchange.parts[peer.peer].start;
        const int64_t ns = part.wait_leave - std::max(part.start, start);
        if (peer.bytes_from <= 0 || start < 0 || ns <= 0 || part.exposed * 2 < ns) continue;
        const int from = report.traffic.WorldRank(exchange, peer.peer);
        sum.ns[from][to] += static_cast<double>(ns);
        sum.rate[from][to] += static_cast<double>(peer.bytes_from);
        all += static_cast<double>(ns);
      }
    }
  }
  if (all == 0) return {};
  for (size_t i = 0; i < world; ++i) {
    for (size_t j = 0; j < world; ++j) {
      sum.rate[i][j] /= std::max(1.0, sum.ns[i][j]);
      sum.ns[i][j] /= std::max(1.0, report.figures.num_steps);
    }
  }
  return sum;
}

// Rows on their way to experts; nothing where their size is not known.
Matrix RowsMatrix(const TrafficReport& report) {
  Matrix rows;
  const auto row_bytes = static_cast<double>(report.run.manifest.row_bytes);
  for (const auto& [operation, matrix] : report.figures.matrices) {
    if (row_bytes <= 0 || !operation.starts_with("dispatch")) continue;
    if (rows.empty()) rows.assign(matrix.size(), std::vector<double>(matrix.size(), 0));
    if (rows.size() != matrix.size()) return {};
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t j = 0; j < rows.size(); ++j) rows[i][j] += matrix[i][j] / row_bytes;
    }
  }
  return rows;
}

// What only records of single exchanges can show: lanes, layers, steps, times.
void AddFineMatrices(const TrafficReport& report, std::vector<HtmlChoice>& choices) {
  const auto add = [&](const std::string& label, const Matrix& matrix) {
    choices.push_back({label, MatrixTable(matrix, {.scale = 1e-6})});
  };
  const size_t world = report.run.manifest.world;
  const std::vector<StepFigures>& steps = report.figures.steps;
  for (const int lane : {0, 1})
    add(lane == 0 ? "forward lane" : "backward lane",
        MatrixOf(report, {.layer = -1, .lane = lane, .operation = ""}));
  const auto most = static_cast<int>(kAllCells / std::min(world * world, kMostCells * kMostCells));
  const int num_steps = std::min({static_cast<int>(steps.size()), kMostSteps, most});
  for (int i = 0; i < num_steps && steps.size() > 1; ++i) {  // evenly over them
    const int64_t step = steps[i * steps.size() / num_steps].first;
    add(Format("step %d", step), MatrixOf(report, {}, step));
  }
  for (int layer = 0; layer < std::min(report.run.manifest.layers, most - num_steps); ++layer)
    add(Format("layer %d", layer), MatrixOf(report, {.layer = layer, .lane = -1, .operation = ""}));
  if (world > kMostCells) return;
  const Transfers transfers = TransfersOf(report);
  if (transfers.ns.empty()) return;
  choices.push_back({"ms under way, at most", MatrixTable(transfers.ns, {.scale = 1e-6, .has_sums = false})});
  choices.push_back({"GB/s, at least", MatrixTable(transfers.rate, {.has_sums = false})});
}

}  // namespace

HtmlScreen MatrixScreen(const TrafficReport& report) {
  std::vector<HtmlChoice> choices;
  for (const auto& [operation, matrix] : report.figures.matrices) {
    if (!matrix.empty())
      choices.push_back(
          {operation.empty() ? "all operations" : operation, MatrixTable(matrix, {.scale = 1e-6})});
  }
  const bool is_fine = report.HasRecords() && !report.options.by_node && report.options.filter.IsAll() &&
                       report.run.manifest.world <= 64 && report.run.manifest.world > 1;
  if (is_fine) AddFineMatrices(report, choices);
  if (const Matrix rows = RowsMatrix(report); !rows.empty())
    choices.push_back({"rows for experts", MatrixTable(rows, {})});
  if (choices.empty())
    return {"matrix", "Matrix", ParagraphHtml("These records have no matrix of this choice.", "soft")};
  double intra = 0, inter = 0, self = 0;
  for (const RankFigures& rank : report.figures.ranks) {
    intra += rank.volume.intra;
    inter += rank.volume.inter;
    self += rank.volume.self;
  }
  std::string body = ParagraphHtml(Format(
      "MB a step from row to column, by %s. To other ranks %.3f MB, of it between nodes "
      "%.3f MB (%.0f %%). Own "
      "blocks, %.3f MB, are hatched, on no wire and in no sum.%s",
      report.figures.by_node ? "node" : "rank", (intra + inter) / 1e6, inter / 1e6,
      intra + inter > 0 ? 100 * inter / (intra + inter) : 0, self / 1e6,
      is_fine ? " Times and rates are of exchanges whose bytes the receiver waited for, from when both "
                "had started."
              : ""));
  return {"matrix", "Matrix", body + ChoiceHtml("matrix", choices)};
}

HtmlScreen BlameScreen(const TrafficReport& report) {
  const TrafficFigures& figures = report.figures;
  const std::string title = "Who made whom wait";
  if (!figures.is_split || figures.owed.empty())
    return {"blame", title, NeedsRecordsHtml("Who was late for whom")};
  double sum = 0;
  std::vector<std::pair<double, size_t>> causes;
  for (size_t cause = 0; cause < figures.owed.size(); ++cause) {
    double ns = 0;
    for (const auto& row : figures.owed) ns += row[cause];
    causes.emplace_back(ns, cause);
    sum += ns;
  }
  std::sort(causes.rbegin(), causes.rend());
  const char* unit = figures.by_node ? "node" : "rank";
  HtmlTable table{.head = {unit, "caused ms a step, sum of all", "share", "rows received to the mean"},
                  .rows = {}};
  double mean_rows = 0;
  for (const RankFigures& rank : figures.ranks)
    mean_rows += rank.rows / static_cast<double>(figures.ranks.size());
  for (size_t i = 0; i < std::min<size_t>(causes.size(), 10); ++i) {
    const auto& [ns, cause] = causes[i];
    const double rows = cause < figures.ranks.size() ? figures.ranks[cause].rows / mean_rows : kUnknown;
    table.rows.push_back({Format("%s %d", unit, cause), MsText(ns),
                          Format("%.0f %%", sum > 0 ? 100 * ns / sum : 0),
                          IsKnown(rows) ? Format("%.2f", rows) : "unknown"});
  }
  std::string body =
      ParagraphHtml("Idle time, ms a step: rows waited, columns were late.") +
      (report.verdict.moved_blame.empty() ? "" : ParagraphHtml(report.verdict.moved_blame)) +
      MatrixTable(figures.owed, {.scale = 1e-6, .own_is_apart = false, .corner = "waited \\ late"}) +
      TableHtml(table);
  return {"blame", title, body};
}

HtmlScreen SizesScreen(const TrafficReport& report) {
  if (!report.HasRecords()) return {"sizes", "Sizes", NeedsRecordsHtml("The size of blocks")};
  std::vector<double> counts(64, 0);
  std::vector<std::vector<double>> rates(64);
  for (const JoinedExchange& exchange : report.traffic.exchanges) {
    for (const ExchangePart& part : exchange.parts) {
      if (!part.recorded) continue;
      int64_t begin = part.start;
      for (const PeerBytes& peer : part.recorded->peers) {
        if (peer.bytes_to > 0) ++counts[std::bit_width(static_cast<uint64_t>(peer.bytes_to)) - 1];
        begin = std::max(begin, exchange.parts[peer.peer].start);
      }
      const int64_t bytes = BytesOnWire(part), ns = part.wait_leave - begin;
      if (bytes > 0 && part.exposed > 0 && part.exposed * 2 > ns && ns > 0)
        rates[std::bit_width(static_cast<uint64_t>(bytes)) - 1].push_back(static_cast<double>(bytes) /
                                                                          static_cast<double>(ns));
    }
  }
  size_t first = 0, last = 63;
  const auto is_empty = [&](size_t bin) { return counts[bin] == 0 && rates[bin].empty(); };
  while (first < last && is_empty(first)) ++first;
  while (last > first && is_empty(last)) --last;
  const WireTimes& wire = report.evidence.wire;
  Histogram histogram{.count_title = "blocks", .curve_title = "GB/s"};
  histogram.curves = {{"achieved, median", {}}, {"alone: latency and rate of the quickest", {}}};
  HtmlTable table{.head = {"bytes from", "blocks", "exchanges waited for", "GB/s, median", "GB/s alone"},
                  .rows = {}};
  for (size_t bin = first; bin <= last; ++bin) {
    const double low = std::pow(2, static_cast<double>(bin)),
                 alone = wire.Ns(static_cast<int64_t>(1.5 * low));
    const double rate = rates[bin].size() < kFewestRates ? kUnknown : Quantile(rates[bin], 0.5),
                 best = alone > 0 ? 1.5 * low / alone : kUnknown;
    const std::string label = bin < 10   ? Format("%.0f", low)
                              : bin < 20 ? Format("%.0fK", low / 1024)
                                         : Format("%.0fM", low / 1048576);
    histogram.labels.push_back(label);
    histogram.counts.push_back(counts[bin]);
    histogram.curves[0].second.push_back(rate);
    histogram.curves[1].second.push_back(best);
    table.rows.push_back({label, Format("%.0f", counts[bin]), Format("%d", rates[bin].size()),
                          IsKnown(rate) ? Format("%.3f", rate) : "-",
                          IsKnown(best) ? Format("%.3f", best) : "-"});
  }
  std::string body = HistogramSvg(histogram) + FoldedTableHtml(table);
  if (wire.beta_ns() > 0) {
    body = ParagraphHtml(Format(
               "Exchanges to which all ranks attended take about %.1f us and %.3f GB/s. Far below that "
               "rate at small sizes is latency: small messages. Below it at large sizes is contention.",
               wire.alpha_ns() / 1000, 1 / wire.beta_ns())) +
           body;
  }
  return {"sizes", "Sizes", body};
}

}  // namespace unipool
