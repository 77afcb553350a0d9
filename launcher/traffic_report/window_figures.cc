#include <algorithm>

#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {
namespace {

// A sum over steps as that of one step.
double Each(int64_t sum, double steps) {
  return sum < 0 ? kUnknown : static_cast<double>(sum) / steps;
}

double At(const std::vector<int64_t>& list, size_t i) {
  return list[i] < 0 ? kUnknown : static_cast<double>(list[i]);
}

// Idle, exposed and hidden times are known of `split_steps`, blocked ones of all steps. They are scaled so
// that they add up: the split steps stand for all of them.
WaitFigures WaitsOf(const RankSums& rank, const RecordedWindow& window) {
  const auto steps = static_cast<double>(window.steps), split = static_cast<double>(window.split_steps);
  WaitFigures waits{.blocked = Each(rank.blocked_ns, steps)};
  const bool is_split = window.split_steps > 0;
  const double blocked = is_split ? Each(rank.split_blocked_ns, split) : kUnknown;
  const double factor = IsKnown(blocked) && blocked > 0 ? waits.blocked / blocked : 1;
  waits.idle = is_split ? factor * Each(rank.idle_ns, split) : kUnknown;
  waits.idle_receiver = is_split ? factor * Each(rank.idle_receiver_ns, split) : kUnknown;
  waits.exposed = is_split ? factor * Each(rank.exposed_ns, split) : kUnknown;
  waits.stalled = waits.exposed * 0;
  waits.hidden = is_split ? factor * Each(rank.hidden_ns, split) : kUnknown;
  return waits;
}

class WindowFigures {
 public:
  WindowFigures(const RecordedRun& folder, const ExchangeFilter& filter)
      : manifest_(folder.manifest), filter_(filter), world_(manifest_.world) {
    figures_.ranks.resize(world_);
    cpu_.assign(world_, {.cpu_ns = 0, .queued_ns = 0, .pushed_off = 0});
    const bool any_split = std::any_of(folder.windows.begin(), folder.windows.end(),
                                       [](const RecordedWindow& window) { return window.split_steps > 0; });
    // One that does not know what ranks waited for would make the others' knowledge useless.
    const auto takes = [&](const RecordedWindow& window) { return !any_split || window.split_steps > 0; };
    for (const RecordedWindow& window : folder.windows) {
      if (takes(window)) figures_.num_steps += static_cast<double>(window.steps);
    }
    for (const RecordedWindow& window : folder.windows) {
      if (takes(window)) Add(window);
    }
    Finish();
  }
  TrafficFigures& figures() { return figures_; }

 private:
  void Add(const RecordedWindow& window) {
    const double steps = static_cast<double>(window.steps), share = steps / figures_.num_steps;
    StepFigures step{.first = window.first_step, .last = window.last_step};
    step.imbalance = window.imbalance_mean < 0 ? kUnknown : window.imbalance_mean;
    step.imbalance_p95 = window.imbalance_p95 < 0 ? kUnknown : window.imbalance_p95;
    for (size_t r = 0; r < world_; ++r) {
      const RankSums& sums = window.ranks[r];
      RankFigures& rank = figures_.ranks[r];
      const double length = Each(sums.step_ns, steps);
      step.step = std::max(step.step, length);
      rank.step += length * share;
      figures_.dropped += static_cast<double>(sums.dropped);
      figures_.first_use += static_cast<double>(sums.first_use);
      if (!filter_.IsAll()) {
        rank.other_blocked += Each(sums.blocked_ns, steps) * share;  // less what the cells below add
        continue;
      }
      cpu_[r].Add({.cpu_ns = sums.cpu_ns, .queued_ns = sums.queued_ns, .pushed_off = sums.pushed_off});
      const WaitFigures waits = WaitsOf(sums, window);
      rank.waits.Add(waits.Times(share));
      step.waits.Add(waits.Times(1.0 / static_cast<double>(world_)));
      rank.volume.Add({.intra = Each(sums.wire_bytes - sums.wire_bytes_inter, steps) * share,
                       .inter = Each(sums.wire_bytes_inter, steps) * share,
                       .self = Each(sums.self_bytes, steps) * share,
                       .received = Each(sums.received_bytes, steps) * share,
                       .exchanges = Each(sums.exchanges, steps) * share});
    }
    for (const WindowCell& cell : window.cells) AddCell(cell, window, share, step);
    if (filter_.layer < 0 && filter_.lane < 0) {
      for (const WindowMatrix& matrix : window.matrices) {
        if (filter_.operation.empty()) AddMatrix(matrix, steps / share, figures_.matrices[""]);
        if (filter_.operation.empty() || filter_.operation == matrix.operation)
          AddMatrix(matrix, steps / share, figures_.matrices[matrix.operation]);
      }
    }
    if (filter_.IsAll() && window.split_steps > 0)
      AddMatrix(window.idle_matrix, static_cast<double>(window.split_steps) / share, figures_.owed);
    figures_.steps.push_back(step);
  }

  void AddMatrix(const WindowMatrix& from, double divisor, Matrix& to) {
    if (from.cells.empty()) return;
    if (to.empty()) to.assign(from.cells.size(), std::vector<double>(from.cells.size(), 0));
    if (to.size() != from.cells.size()) return;
    figures_.by_node = figures_.by_node || !from.by_rank;
    for (size_t i = 0; i < to.size(); ++i) {
      for (size_t j = 0; j < to.size(); ++j)
        to[i][j] += static_cast<double>(std::max<int64_t>(0, from.cells[i][j])) / divisor;
    }
  }

  // Of rank r where there is one entry a rank; else of all ranks.
  WaitFigures WaitsAt(const WindowCell& cell, const RecordedWindow& window, size_t i) const {
    const double steps = static_cast<double>(window.steps), split = static_cast<double>(window.split_steps);
    const bool is_split = window.split_steps > 0;
    WaitFigures waits{.blocked = At(cell.blocked_ns, i) / steps};
    waits.idle = is_split ? At(cell.idle_ns, i) / split : kUnknown;
    waits.idle_receiver = is_split ? At(cell.idle_receiver_ns, i) / split : kUnknown;
    waits.exposed = is_split ? At(cell.exposed_ns, i) / split : kUnknown;
    waits.stalled = waits.exposed * 0;
    waits.hidden = is_split ? At(cell.hidden_ns, i) / split : kUnknown;
    return waits;
  }

  void AddCell(const WindowCell& cell, const RecordedWindow& window, double share, StepFigures& step) {
    if (!filter_.Takes(cell.operation, cell.lane, cell.layer)) return;
    CellFigures& figures = figures_.cells[{cell.communicator, cell.operation, cell.lane, cell.layer}];
    const auto steps = static_cast<double>(window.steps), world = static_cast<double>(world_);
    for (size_t i = 0; i < (cell.by_rank ? world_ : 1); ++i) {
      const WaitFigures waits = WaitsAt(cell, window, i).Times(share);
      const VolumeFigures volume{.intra = At(cell.bytes_intra, i) / steps * share,
                                 .inter = At(cell.bytes_inter, i) / steps * share,
                                 .self = At(cell.bytes_self, i) / steps * share,
                                 .exchanges = At(cell.count, i) / steps * share};
      figures.waits.Add(waits.Times(1 / world));
      figures.volume.Add(volume);
      if (cell.by_rank && waits.blocked > figures.worst_blocked) {
        figures.worst_blocked = waits.blocked;
        figures.worst_rank = static_cast<int>(i);
      }
      if (filter_.IsAll()) continue;
      step.waits.Add(waits.Times(1 / share / world));
      if (!cell.by_rank) continue;
      figures_.ranks[i].waits.Add(waits);
      figures_.ranks[i].other_blocked -= waits.blocked;
      figures_.ranks[i].volume.Add(volume);
    }
    if (!cell.by_rank) {
      figures.worst_rank = static_cast<int>(cell.blocked_ns[2]);
      figures.worst_blocked = At(cell.blocked_ns, 1) / steps;
    }
  }

  void Finish() {
    // Above some size the matrices are by node, and owed times are then those of nodes.
    if (figures_.owed.size() == world_) {
      for (RankFigures& rank : figures_.ranks) rank.caused = 0;
      for (const std::vector<double>& row : figures_.owed) {
        for (size_t cause = 0; cause < world_; ++cause) figures_.ranks[cause].caused += row[cause];
      }
    }
    FindRows();
    for (size_t r = 0; r < world_ && filter_.IsAll(); ++r)
      TrafficFigures::SetCpu(figures_.ranks[r], manifest_, cpu_[r], figures_.num_steps);
    const WaitFigures waits = figures_.MeanWaits();
    figures_.is_split = IsKnown(waits.exposed);
  }

  // From the bytes that bring rows to experts.
  void FindRows() {
    if (manifest_.row_bytes <= 0) return;
    for (const auto& [operation, matrix] : figures_.matrices) {
      if (!operation.starts_with("dispatch") || matrix.size() != world_) continue;
      for (size_t to = 0; to < world_; ++to) {
        double& rows = figures_.ranks[to].rows;
        if (!IsKnown(rows)) rows = 0;
        for (size_t from = 0; from < world_; ++from)
          rows += matrix[from][to] / static_cast<double>(manifest_.row_bytes);
      }
    }
  }

  const RecordedManifest& manifest_;
  const ExchangeFilter& filter_;
  const size_t world_;
  std::vector<ThreadCpu> cpu_;  // by rank, of the windows that are taken
  TrafficFigures figures_;
};

}  // namespace

TrafficFigures FiguresOfWindows(const RecordedRun& folder, const ExchangeFilter& filter) {
  return std::move(WindowFigures(folder, filter).figures());
}

}  // namespace unipool
