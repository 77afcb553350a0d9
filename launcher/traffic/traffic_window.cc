#include "launcher/traffic/traffic_window.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kTotals[] = {
    "step_ns",   "blocked_ns", "start_ns",         "idle_ns",    "idle_receiver_ns", "exposed_ns",
    "hidden_ns", "wire_bytes", "wire_bytes_inter", "self_bytes", "received_bytes",   "exchanges",
    "dropped",   "first_use",  "split_blocked_ns", "cpu_ns",     "queued_ns",        "pushed_off"};
constexpr const char* kCells[] = {"count",   "bytes_intra",      "bytes_inter", "bytes_self", "blocked_ns",
                                  "idle_ns", "idle_receiver_ns", "exposed_ns",  "hidden_ns"};

Json NumbersOf(const TrafficCell& cell) {
  return {cell.count,   cell.bytes_intra,      cell.bytes_inter, cell.bytes_self, cell.blocked_ns,
          cell.idle_ns, cell.idle_receiver_ns, cell.exposed_ns,  cell.hidden_ns};
}

Json TotalsOf(const TrafficTotals& totals, const WindowTimes& times) {
  const TrafficCell& sum = totals.sum;
  const auto if_known = [](bool known, int64_t value) { return known ? Json(value) : Json(); };
  const bool is_split = totals.is_split() || totals.sampled_steps > 0;
  const auto or_null = [](int64_t value) { return value < 0 ? Json() : Json(value); };
  return {times.step_ns,
          sum.blocked_ns,
          totals.start_ns,
          if_known(is_split, sum.idle_ns),
          if_known(is_split, sum.idle_receiver_ns),
          if_known(is_split, sum.exposed_ns),
          if_known(totals.has_wires(), sum.hidden_ns),
          totals.wire_bytes(),
          sum.bytes_inter,
          sum.bytes_self,
          totals.received_bytes,
          sum.count,
          totals.dropped,
          totals.first_use,
          totals.split_blocked_ns,
          or_null(times.cpu.cpu_ns),
          or_null(times.cpu.queued_ns),
          or_null(times.cpu.pushed_off)};
}

// One number a rank; above kMostRanksInCells their sum, the largest and its rank.
Json PerRank(const std::vector<int64_t>& values) {
  if (values.size() <= kMostRanksInCells) return values;
  int64_t sum = 0;
  for (const int64_t value : values) sum += value;
  const auto largest = std::max_element(values.begin(), values.end());
  return {sum, *largest, largest - values.begin()};
}

// communicator, operation, lane, layer
using CellKey = std::tuple<std::string, std::string, int, int>;
using MatrixKey = std::pair<std::string, std::string>;

class Window {
 public:
  Window(const std::vector<int>& node_of_rank, const std::vector<Json>& shares)
      : node_of_rank_(node_of_rank), shares_(shares), world_(static_cast<int>(shares.size())) {}

  Json Ranks() const {
    Json ranks = Json::object();
    for (size_t i = 0; i < std::size(kTotals); ++i) {
      Json& column = ranks[kTotals[i]] = Json::array();
      for (const Json& share : shares_) column.push_back(share["totals"][i]);
    }
    return ranks;
  }

  // Steps whose idle times all ranks know; -1: all of them.
  int64_t SplitSteps() const {
    int64_t steps = -1;
    for (const Json& share : shares_) {
      const auto own = share["split_steps"].get<int64_t>();
      if (own >= 0) steps = steps < 0 ? own : std::min(steps, own);
    }
    return steps;
  }

  TrafficStep Sampled() const {
    TrafficStep step{.idle_ms = 0, .exposed_ms = 0};
    std::vector<int64_t> owed(world_);
    int64_t all = 0;
    for (const Json& share : shares_) {
      const Json& totals = share["totals"];
      *step.idle_ms += 1e-6 / world_ * (totals[3].get<double>() + totals[4].get<double>());
      *step.exposed_ms += 1e-6 / world_ * totals[5].get<double>();
      step.blocked_ms += 1e-6 / world_ * totals[14].get<double>();
      for (int p = 0; p < world_; ++p) owed[p] += share["owed"][p].get<int64_t>();
    }
    for (const int64_t ns : owed) all += ns;
    if (all == 0) return step;
    const auto most = std::max_element(owed.begin(), owed.end());
    step.waited_for_rank = most - owed.begin();
    step.waited_for_share = static_cast<double>(*most) / static_cast<double>(all);
    return step;
  }

  Json Cells() const {
    std::map<CellKey, std::vector<std::vector<int64_t>>> cells;  // [number][rank]
    std::vector<CellKey> order;
    for (int rank = 0; rank < world_; ++rank) {
      for (const Json& cell : shares_[rank]["cells"]) {
        const CellKey key{cell[0].get<std::string>(), cell[1].get<std::string>(), cell[2].get<int>(),
                          cell[3].get<int>()};
        auto& numbers = cells[key];
        if (numbers.empty()) {
          numbers.assign(std::size(kCells), std::vector<int64_t>(world_));
          order.push_back(key);
        }
        for (size_t i = 0; i < std::size(kCells); ++i) numbers[i][rank] = cell[4][i].get<int64_t>();
      }
    }
    Json list = Json::array();
    for (const CellKey& key : order) {
      Json entry{{"communicator", std::get<0>(key)},
                 {"operation", std::get<1>(key)},
                 {"lane", std::get<2>(key)},
                 {"layer", std::get<3>(key)},
                 {"by", world_ <= kMostRanksInCells ? "rank" : "largest"}};
      for (size_t i = 0; i < std::size(kCells); ++i) entry[kCells[i]] = PerRank(cells[key][i]);
      list.push_back(std::move(entry));
    }
    return list;
  }

  Json Matrices() const {
    std::map<MatrixKey, std::vector<std::vector<int64_t>>> matrices;
    std::vector<MatrixKey> order;
    for (int rank = 0; rank < world_; ++rank) {
      for (const Json& row : shares_[rank]["to"]) {
        const MatrixKey key{row[0].get<std::string>(), row[1].get<std::string>()};
        auto& matrix = matrices[key];
        if (matrix.empty()) {
          matrix.assign(num_lines(), std::vector<int64_t>(num_lines()));
          order.push_back(key);
        }
        for (int p = 0; p < world_; ++p) matrix[LineOf(rank)][LineOf(p)] += row[2][p].get<int64_t>();
      }
    }
    Json list = Json::array();
    for (const MatrixKey& key : order) {
      list.push_back(
          {{"communicator", key.first}, {"operation", key.second}, {"by", By()}, {"bytes", matrices[key]}});
    }
    return list;
  }

  Json IdleMatrix() const {
    std::vector<std::vector<int64_t>> matrix(num_lines(), std::vector<int64_t>(num_lines()));
    for (int rank = 0; rank < world_; ++rank) {
      for (int p = 0; p < world_; ++p)
        matrix[LineOf(rank)][LineOf(p)] += shares_[rank]["owed"][p].get<int64_t>();
    }
    return {{"by", By()}, {"ns", matrix}};
  }

 private:
  bool by_node() const { return world_ > kMostRanksInMatrices; }
  const char* By() const { return by_node() ? "node" : "rank"; }
  int LineOf(int rank) const { return by_node() ? node_of_rank_[rank] : rank; }
  int num_lines() const {
    return by_node() ? 1 + *std::max_element(node_of_rank_.begin(), node_of_rank_.end()) : world_;
  }

  const std::vector<int>& node_of_rank_;
  const std::vector<Json>& shares_;
  const int world_;
};

template <class T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

}  // namespace

std::string PackWindow(const TrafficRecorder& recorder, const WindowTimes& times,
                       const std::string& problem) {
  const TrafficTally& tally = recorder.tally();
  Json cells = Json::array(), to = Json::array();
  for (const TrafficTally::Operation& operation : tally.operations()) {
    const std::string& communicator = recorder.communicators()[operation.communicator].name;
    for (int lane = -1; lane <= 1; ++lane) {
      for (int layer = -1; layer < tally.num_layers(); ++layer) {
        const TrafficCell& cell = operation.cells[tally.CellIndex(lane, layer)];
        if (cell.count == 0) continue;
        cells.push_back({communicator, operation.name, lane, layer, NumbersOf(cell)});
      }
    }
    to.push_back({communicator, operation.name, operation.bytes_to});
  }
  const auto owed = tally.window_owed();
  const Json share{{"totals", TotalsOf(tally.window(), times)},
                   {"owed", std::vector<int64_t>(owed.begin(), owed.end())},
                   {"cells", std::move(cells)},
                   {"to", std::move(to)},
                   {"split_steps", tally.window().is_split() ? int64_t{-1} : tally.window().sampled_steps},
                   {"problem", problem}};
  const std::vector<uint8_t> packed = Json::to_cbor(share);
  return {packed.begin(), packed.end()};
}

WindowText MakeWindow(const WindowSteps& steps, const std::vector<int>& node_of_rank,
                      const std::vector<std::string>& shares, const TrafficStep& last_step,
                      const WindowExperts& experts) {
  std::vector<Json> unpacked;
  WindowText text;
  int num_problems = 0;
  for (const std::string& share : shares) {
    unpacked.push_back(Json::from_cbor(share, /*strict=*/false));  // it may be padded
    text.dropped += unpacked.back()["totals"][12].get<int64_t>();
    const auto problem = unpacked.back()["problem"].get<std::string>();
    if (problem.empty() || ++num_problems > 3) continue;
    text.problems += Format("%srank %d: ", text.problems.empty() ? "" : "; ", unpacked.size() - 1) + problem;
  }
  if (num_problems > 3) text.problems += Format("; and %d more ranks", num_problems - 3);
  const Window window(node_of_rank, unpacked);
  Json json{{"unipool_traffic", kTrafficFormat},
            {"first_step", steps.first},
            {"last_step", steps.last},
            {"steps", steps.count()}};
  const int64_t split_steps = window.SplitSteps();
  json["split_steps"] = split_steps < 0 ? steps.count() : split_steps;
  if (split_steps == 1) text.sampled = window.Sampled();
  json["ranks"] = window.Ranks();
  json["cells"] = window.Cells();
  json["matrices"] = window.Matrices();
  json["idle_matrix"] = window.IdleMatrix();
  json["imbalance"] = {{"mean", OrNull(last_step.receive_imbalance)},
                       {"p95", OrNull(last_step.receive_imbalance_p95)}};
  json["expert_rows"] = experts.ToJson();
  text.json = json.dump() + "\n";
  return text;
}

}  // namespace unipool
