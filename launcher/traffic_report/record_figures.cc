#include <algorithm>
#include <set>

#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {
namespace {

Matrix Square(size_t size) {
  return Matrix(size, std::vector<double>(size, 0));
}

double OrUnknown(int64_t ns) {
  return ns < 0 ? kUnknown : static_cast<double>(ns);
}

WaitFigures WaitsOf(const ExchangePart& part) {
  return {.blocked = static_cast<double>(part.blocked()),
          .idle = OrUnknown(part.idle),
          .idle_receiver = OrUnknown(part.idle_receiver),
          .exposed = OrUnknown(part.exposed),
          .stalled = part.exposed < 0 ? kUnknown : static_cast<double>(part.stalled),
          .hidden = OrUnknown(part.hidden)};
}

// Rows on their way to the experts: what makes a rank busy.
bool BringsRows(const std::string& operation, const ExchangeRecord& record) {
  return record.row_bytes > 0 && operation.starts_with("dispatch");
}

class RecordFigures {
 public:
  RecordFigures(const RecordedRun& folder, const JoinedTraffic& traffic, const ExchangeFilter& filter)
      : manifest_(folder.manifest), traffic_(traffic), filter_(filter), world_(manifest_.world) {
    figures_.from_records = true;
    figures_.num_steps = static_cast<double>(traffic.steps.size());
    figures_.ranks.resize(world_);
    figures_.owed = Square(world_);
    figures_.matrices[""] = Square(world_);
    for (RankFigures& rank : figures_.ranks) rank.caused = rank.rows = 0;
    AddSteps();
    for (const JoinedExchange& exchange : traffic.exchanges) Add(exchange);
    Finish(folder);
  }
  TrafficFigures& figures() { return figures_; }

 private:
  void AddSteps() {
    for (const JoinedStep& step : traffic_.steps) {
      StepFigures one{.first = step.step, .last = step.step};
      for (size_t r = 0; r < world_; ++r) {
        const double length = step.begin[r] < 0 ? kUnknown : static_cast<double>(step.end[r] - step.begin[r]);
        figures_.ranks[r].step += length;
        one.step = std::max(one.step, length);
      }
      step_index_[step.step] = figures_.steps.size();
      figures_.steps.push_back(one);
    }
    imbalances_.resize(figures_.steps.size());
  }

  void Add(const JoinedExchange& exchange) {
    const std::string& operation = traffic_.operations[exchange.operation];
    const std::string& communicator = traffic_.communicators[exchange.communicator].name;
    std::vector<double> received(exchange.parts.size(), 0);  // rows, those of the rank itself too
    bool brings_rows = false;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded) continue;
      const ExchangeRecord& record = part.recorded->record;
      const bool is_first = record.head.flags & ExchangeRecord::kFirstUse;
      const int rank = traffic_.WorldRank(exchange, static_cast<int>(p));
      if (!filter_.Takes(operation, exchange.lane, record.layer)) {
        if (!is_first) figures_.ranks[rank].other_blocked += static_cast<double>(part.blocked());
        continue;
      }
      if (is_first) {  // it may have made connections
        ++figures_.first_use;
        continue;
      }
      const WaitFigures waits = WaitsOf(part);
      const VolumeFigures volume = AddBytes(exchange, part, rank, operation);
      figures_.ranks[rank].waits.Add(waits);
      figures_.ranks[rank].volume.Add(volume);
      figures_.steps[step_index_.at(exchange.step)].waits.Add(waits.Times(1.0 / static_cast<double>(world_)));
      CellFigures& cell = figures_.cells[{communicator, operation, exchange.lane, record.layer}];
      cell.waits.Add(waits);
      cell.volume.Add(volume);
      blocked_by_rank_[&cell].resize(world_, 0);
      blocked_by_rank_[&cell][rank] += waits.blocked;
      if (part.cause >= 0 && part.cause < static_cast<int>(world_) && part.idle >= 0) {
        const auto owed = static_cast<double>(part.idle + part.idle_receiver);
        figures_.owed[rank][part.cause] += owed;
        cell.owed[part.cause] += owed;
      }
      figures_.idle_uncertainty += static_cast<double>(part.idle_uncertainty);
      if (exchange.slot_time >= 0 && record.stage >= 0) {
        SlotFigures& slot = figures_.slots[{exchange.slot_time, record.stage}];
        slot.idle += waits.Idle();
        slot.exposed += waits.exposed;
      }
      if (!BringsRows(operation, record)) continue;
      brings_rows = true;
      AddRows(exchange, part, rank, received, p);
    }
    if (brings_rows) AddImbalance(exchange, received);
  }

  VolumeFigures AddBytes(const JoinedExchange& exchange, const ExchangePart& part, int rank,
                         const std::string& operation) {
    VolumeFigures volume{.self = static_cast<double>(part.recorded->record.bytes_self), .exchanges = 1};
    Matrix& of_operation = figures_.matrices[operation];
    if (of_operation.empty()) of_operation = Square(world_);
    Matrix& all = figures_.matrices.at("");
    for (const PeerBytes& peer : part.recorded->peers) {
      const int to = traffic_.WorldRank(exchange, peer.peer);
      const auto bytes = static_cast<double>(peer.bytes_to);
      (manifest_.node_of_rank[rank] == manifest_.node_of_rank[to] ? volume.intra : volume.inter) += bytes;
      volume.received += static_cast<double>(peer.bytes_from);
      of_operation[rank][to] += bytes;
      all[rank][to] += bytes;
    }
    of_operation[rank][rank] += volume.self;
    all[rank][rank] += volume.self;
    return volume;
  }

  void AddRows(const JoinedExchange& exchange, const ExchangePart& part, int rank,
               std::vector<double>& received, size_t p) {
    const ExchangeRecord& record = part.recorded->record;
    std::vector<double>& of_layer = figures_.rows[record.layer];
    of_layer.resize(world_, 0);
    const auto row_bytes = static_cast<double>(record.row_bytes);
    const auto count = [&](size_t to_part, int to_rank, int64_t bytes) {
      const double rows = static_cast<double>(bytes) / row_bytes;
      received[to_part] += rows;
      of_layer[to_rank] += rows;
      figures_.ranks[to_rank].rows += rows;
    };
    count(p, rank, record.bytes_self);
    for (const PeerBytes& peer : part.recorded->peers) {
      count(peer.peer, traffic_.WorldRank(exchange, peer.peer), peer.bytes_to);
    }
  }

  void AddImbalance(const JoinedExchange& exchange, const std::vector<double>& received) {
    double sum = 0, most = 0;
    for (const double rows : received) {
      sum += rows;
      most = std::max(most, rows);
    }
    if (sum == 0) return;
    const double imbalance = most * static_cast<double>(received.size()) / sum;
    imbalances_[step_index_.at(exchange.step)].push_back(imbalance);
    for (int stage = 0; exchange.slot_time >= 0 && stage < std::max(1, manifest_.stages); ++stage) {
      const auto slot = figures_.slots.find({exchange.slot_time, stage});
      if (slot == figures_.slots.end()) continue;
      double& largest = slot->second.imbalance;
      largest = IsKnown(largest) ? std::max(largest, imbalance) : imbalance;
    }
  }

  void Finish(const RecordedRun& folder) {
    const double each = 1 / std::max(1.0, figures_.num_steps), of_ranks = each / static_cast<double>(world_);
    for (RankFigures& rank : figures_.ranks) {
      rank.step *= each;
      rank.waits = rank.waits.Times(each);
      rank.volume = rank.volume.Times(each);
      rank.rows *= each;
      rank.other_blocked *= each;
    }
    FinishCpu(folder);
    for (auto& [key, cell] : figures_.cells) FinishCell(cell, each, of_ranks);
    for (auto& [operation, matrix] : figures_.matrices) Scale(matrix, each);
    Scale(figures_.owed, each);
    for (const std::vector<double>& row : figures_.owed) {
      for (size_t cause = 0; cause < row.size(); ++cause) figures_.ranks[cause].caused += row[cause];
    }
    const double of_stage =
        each * static_cast<double>(std::max(1, manifest_.stages)) / static_cast<double>(world_);
    for (auto& [key, slot] : figures_.slots) {
      slot.idle *= of_stage;
      slot.exposed *= of_stage;
    }
    for (auto& [layer, rows] : figures_.rows) {
      for (double& count : rows) count *= each;
    }
    // Ranks without work of their own in a slot bring none.
    const auto none = figures_.rows.find(-1);
    if (none != figures_.rows.end() && Sum(none->second) == 0) figures_.rows.erase(none);
    figures_.idle_uncertainty *= of_ranks;
    FinishSteps();
    for (const TrafficFile& file : folder.files) {
      for (const StepRecord& step : file.steps) {
        if (step_index_.contains(step.step)) figures_.dropped += static_cast<double>(step.num_dropped);
      }
    }
    const WaitFigures waits = figures_.MeanWaits();
    figures_.is_split = IsKnown(waits.exposed);
    figures_.hidden_is_estimate = IsKnown(waits.hidden) && manifest_.carrier != "emulated";
  }

  void FinishCpu(const RecordedRun& folder) {
    for (const TrafficFile& file : folder.files) {
      ThreadCpu sum{.cpu_ns = 0, .queued_ns = 0, .pushed_off = 0};
      double steps = 0;
      for (const StepRecord& step : file.steps) {
        if (!step_index_.contains(step.step)) continue;
        ++steps;
        sum.Add({.cpu_ns = step.cpu_ns, .queued_ns = step.queued_ns, .pushed_off = step.pushed_off});
      }
      if (steps > 0 && file.header.rank < static_cast<int>(world_))
        TrafficFigures::SetCpu(figures_.ranks[file.header.rank], manifest_, sum, steps);
    }
  }

  void FinishCell(CellFigures& cell, double each, double of_ranks) {
    const std::vector<double>& blocked = blocked_by_rank_.at(&cell);
    const auto worst = std::max_element(blocked.begin(), blocked.end());
    cell.worst_rank = static_cast<int>(worst - blocked.begin());
    cell.worst_blocked = *worst * each;
    cell.waits = cell.waits.Times(of_ranks);
    cell.volume = cell.volume.Times(each);
    for (auto& [cause, ns] : cell.owed) ns *= of_ranks;
  }

  void FinishSteps() {
    for (size_t i = 0; i < figures_.steps.size(); ++i) {
      const std::vector<double>& values = imbalances_[i];
      if (values.empty()) continue;
      StepFigures& step = figures_.steps[i];
      double sum = 0;
      for (const double value : values) sum += value;
      step.imbalance = sum / static_cast<double>(values.size());
      step.imbalance_p95 = Quantile(values, 0.95);
      step.imbalance_max = Quantile(values, 1);
    }
  }

  static double Sum(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
  }

  static void Scale(Matrix& matrix, double factor) {
    for (std::vector<double>& row : matrix) {
      for (double& value : row) value *= factor;
    }
  }

  const RecordedManifest& manifest_;
  const JoinedTraffic& traffic_;
  const ExchangeFilter& filter_;
  const size_t world_;
  std::map<int64_t, size_t> step_index_;
  std::vector<std::vector<double>> imbalances_;  // by step, of each exchange that brings rows
  std::map<const CellFigures*, std::vector<double>> blocked_by_rank_;
  TrafficFigures figures_;
};

}  // namespace

TrafficFigures FiguresOfRecords(const RecordedRun& folder, const JoinedTraffic& traffic,
                                const ExchangeFilter& filter) {
  return std::move(RecordFigures(folder, traffic, filter).figures());
}

}  // namespace unipool
