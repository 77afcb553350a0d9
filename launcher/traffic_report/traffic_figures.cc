#include "launcher/traffic_report/traffic_figures.h"

#include <algorithm>

namespace unipool {

void WaitFigures::Add(const WaitFigures& other) {
  blocked += other.blocked;
  idle += other.idle;
  idle_receiver += other.idle_receiver;
  exposed += other.exposed;
  stalled += other.stalled;
  hidden += other.hidden;
}

WaitFigures WaitFigures::Times(double factor) const {
  return {.blocked = blocked * factor,
          .idle = idle * factor,
          .idle_receiver = idle_receiver * factor,
          .exposed = exposed * factor,
          .stalled = stalled * factor,
          .hidden = hidden * factor};
}

void VolumeFigures::Add(const VolumeFigures& other) {
  intra += other.intra;
  inter += other.inter;
  self += other.self;
  received += other.received;
  exchanges += other.exchanges;
}

VolumeFigures VolumeFigures::Times(double factor) const {
  return {.intra = intra * factor,
          .inter = inter * factor,
          .self = self * factor,
          .received = received * factor,
          .exchanges = exchanges * factor};
}

WaitFigures TrafficFigures::MeanWaits() const {
  WaitFigures sum;
  for (const RankFigures& rank : ranks) sum.Add(rank.waits);
  return sum.Times(1.0 / static_cast<double>(std::max<size_t>(1, ranks.size())));
}

double TrafficFigures::MeanStep() const {
  double sum = 0;
  for (const RankFigures& rank : ranks) sum += rank.step;
  return sum / static_cast<double>(std::max<size_t>(1, ranks.size()));
}

double TrafficFigures::MeanCompute() const {
  double sum = 0;
  for (const RankFigures& rank : ranks) sum += rank.Compute();
  return sum / static_cast<double>(std::max<size_t>(1, ranks.size()));
}

double TrafficFigures::RowsLeavingNode() const {
  VolumeFigures sum;
  for (const auto& [key, cell] : cells) {
    if (std::get<1>(key).starts_with("dispatch")) sum.Add(cell.volume);
  }
  const double all = sum.Wire() + sum.self;
  return all > 0 ? sum.inter / all : kUnknown;
}

void TrafficFigures::SetCpu(RankFigures& rank, const RecordedManifest& manifest, const ThreadCpu& sum,
                            double num_steps) {
  const auto each = [&](int64_t value) {
    return value < 0 ? kUnknown : static_cast<double>(value) / num_steps;
  };
  rank.queued = each(sum.queued_ns);
  rank.pushed_off = each(sum.pushed_off);
  const double cpu = each(sum.cpu_ns);
  if (!IsKnown(cpu)) return;
  // MPI ranks poll while they wait; ranks that are threads give their core away.
  const bool polls = manifest.carrier == "MPI";
  rank.off_core = std::max(0.0, polls ? rank.step - cpu : rank.Compute() - cpu);
  if (!polls && IsKnown(rank.queued)) rank.off_core = std::max(rank.off_core, rank.queued);
}

namespace {

Matrix Folded(const Matrix& matrix, const std::vector<int>& node_of_rank, size_t nodes) {
  if (matrix.size() != node_of_rank.size()) return matrix;
  Matrix folded(nodes, std::vector<double>(nodes, 0));
  for (size_t i = 0; i < matrix.size(); ++i) {
    for (size_t j = 0; j < matrix.size(); ++j) folded[node_of_rank[i]][node_of_rank[j]] += matrix[i][j];
  }
  return folded;
}

}  // namespace

TrafficFigures ByNode(const TrafficFigures& figures, const std::vector<int>& node_of_rank) {
  TrafficFigures nodes = figures;
  const size_t count =
      node_of_rank.empty() ? 1 : *std::max_element(node_of_rank.begin(), node_of_rank.end()) + 1;
  for (auto& [operation, matrix] : nodes.matrices) matrix = Folded(matrix, node_of_rank, count);
  nodes.owed = Folded(figures.owed, node_of_rank, count);
  for (auto& [layer, rows] : nodes.rows) {
    std::vector<double> folded(count, 0);
    for (size_t r = 0; r < rows.size(); ++r) folded[node_of_rank[r]] += rows[r];
    rows = folded;
  }
  nodes.by_node = true;
  if (figures.ranks.size() != node_of_rank.size()) return nodes;
  nodes.ranks.assign(count, {});
  std::vector<double> size(count, 0);
  for (const int node : node_of_rank) ++size[node];
  for (size_t r = 0; r < figures.ranks.size(); ++r) {
    const RankFigures& rank = figures.ranks[r];
    RankFigures& node = nodes.ranks[node_of_rank[r]];
    const double share = 1 / size[node_of_rank[r]];
    const bool is_first = node.step == 0;
    node.step += rank.step * share;
    node.waits.Add(rank.waits.Times(share));
    node.volume.Add(rank.volume);
    node.other_blocked += rank.other_blocked * share;
    node.caused = rank.caused + (is_first ? 0 : node.caused);
    node.rows = rank.rows + (is_first ? 0 : node.rows);
  }
  return nodes;
}

double Quantile(std::vector<double> values, double share) {
  std::erase_if(values, [](double value) { return !IsKnown(value); });
  if (values.empty()) return kUnknown;
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  const double part = place - static_cast<double>(below);
  return values[below] * (1 - part) + values[above] * part;
}

}  // namespace unipool
