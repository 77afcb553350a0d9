#include "launcher/traffic_report/verdict.h"

#include <algorithm>

#include "launcher/traffic_report/slow_wire.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kMost = 2.0 / 3;       // of waiting: it dominates
constexpr double kSmall = 0.01;         // of the step: not worth a cause
constexpr double kExplains = 0.3;       // of a time: what is longer explains it
constexpr double kClear = 0.1;          // of a time: a difference that is no accident
constexpr double kPlace = 0.25;         // of what a rank is waited for: worth naming where
constexpr double kSmallMessage = 4096;  // bytes
constexpr double kMuch = 1.5,
                 kMostOwed = 0.6;  // of an even share of idle time, and of all of it: names a rank
constexpr double kHot = 1.5;       // of the mean rows: a rank with hot experts
constexpr size_t kMostCauses = 3;

constexpr const char* kHotExperts =
    "hot experts: a smaller parallel.replace_every places them anew, a balancing loss (moe.balance) with a "
    "larger moe.balance_coeff spreads tokens";

std::string Percent(double share) {
  return Format("%.0f %%", 100 * share);
}

class Judging {
 public:
  explicit Judging(const VerdictInputs& inputs)
      : manifest_(*inputs.manifest),
        figures_(*inputs.figures),
        traffic_(inputs.traffic),
        evidence_(inputs.evidence),
        waits_(figures_.MeanWaits()),
        step_(figures_.MeanStep()),
        world_(static_cast<double>(figures_.ranks.size())) {
    if (manifest_.world == 1) {
      verdict_.kind = "one rank";
      verdict_.reason = "One rank exchanges nothing with others.";
      return;
    }
    if (figures_.is_split) {
      for (size_t r = 0; r < figures_.ranks.size(); ++r) {
        if (IsLateByWire(static_cast<int>(r))) late_by_wire_ += figures_.ranks[r].caused / world_;
      }
      AddIdle();
      AddStalled();
      AddExposed();
    } else {
      AddBlocked();
    }
    Classify();
    std::stable_sort(verdict_.causes.begin(), verdict_.causes.end(),
                     [](const auto& a, const auto& b) { return a.ns > b.ns; });
    std::erase_if(verdict_.causes, [&](const WaitCause& cause) { return cause.ns < kSmall * step_; });
    if (verdict_.causes.size() > kMostCauses) verdict_.causes.resize(kMostCauses);
  }
  Verdict& verdict() { return verdict_; }

 private:
  void Classify() {
    const std::string waiting = Format("Ranks wait %s of a step of %s (%s).", TimeText(waits_.blocked),
                                       TimeText(step_), Percent(waits_.blocked / step_));
    if (!figures_.is_split) {
      verdict_.kind = "inconclusive";
      verdict_.reason =
          waiting + " What for is not known: " +
          (figures_.from_records
               ? "records of ranks are missing, or their clocks were never compared."
               : "the sums of windows have no times of the other ranks; traffic.record=FULL records them.");
      return;
    }
    const double wire = waits_.exposed - waits_.stalled + late_by_wire_, idle = waits_.Idle() - late_by_wire_;
    const double whole = std::max(1.0, waits_.blocked);
    verdict_.reason =
        waiting + Format(" For late ranks %s, for the wire %s", Percent(idle / whole), Percent(wire / whole));
    if (IsStalled(waits_))
      verdict_.reason += Format(", for a transport that did not move %s", Percent(waits_.stalled / whole));
    verdict_.reason += ".";
    const double doubt = figures_.idle_uncertainty;
    if (doubt > 0) verdict_.reason += Format(" Clocks leave +- %s of it open.", TimeText(doubt));
    const auto kind = [&](double of_idle) {
      return of_idle >= kMost * whole           ? "skew-dominated"
             : whole - of_idle >= kMost * whole ? "transfer-dominated"
                                                : "mixed";
    };
    verdict_.kind = kind(idle);
    if (evidence_ && evidence_->causality.Breached()) {
      Doubt("blocks would have arrived before they were sent: clocks of hosts do not fit together");
    } else if (kind(idle - doubt) != kind(idle + doubt)) {
      Doubt("it depends on what clocks leave open");
    } else if (evidence_ && doubt > 0 && evidence_->clock_free.Disagrees()) {
      Doubt(Format("exchanges with level sizes took %s by clocks and at most %s without them",
                   TimeText(evidence_->clock_free.by_clocks_ns), TimeText(evidence_->clock_free.without_ns)));
    }
    if (waits_.blocked < 0.05 * step_) verdict_.reason += " There is little to gain from less waiting.";
  }

  void Doubt(const std::string& why) {
    verdict_.kind = "inconclusive";
    verdict_.reason += " Not decided: " + why + ".";
  }

  bool IsOneNode() const {
    return *std::max_element(manifest_.node_of_rank.begin(), manifest_.node_of_rank.end()) == 0;
  }

  std::string RankName(int rank) const {
    std::string name = Format("rank %d", rank);
    if (!IsOneNode()) name += Format(" (node %d)", manifest_.node_of_rank[rank]);
    return name;
  }

  // Where others wait for this rank most, and its share of what they wait for it.
  std::string PlaceOf(int rank) const {
    const CellKey* place = nullptr;
    double most = 0, sum = 0;
    for (const auto& [key, cell] : figures_.cells) {
      const auto found = cell.owed.find(rank);
      if (found == cell.owed.end()) continue;
      sum += found->second;
      if (found->second <= most) continue;
      most = found->second;
      place = &key;
    }
    if (!place || most < kPlace * sum) return "";
    const auto& [communicator, operation, lane, layer] = *place;
    const std::string where = operation + (layer >= 0 ? Format(" of layer %d", layer) : "");
    return Format(", %s of it in %s", Percent(most / sum), where);
  }

  double MeanOfOthers(int rank, double (*value)(const RankFigures&)) const {
    double sum = 0;
    for (size_t r = 0; r < figures_.ranks.size(); ++r) {
      if (static_cast<int>(r) != rank) sum += value(figures_.ranks[r]);
    }
    return sum / std::max(1.0, world_ - 1);
  }

  // How much longer a rank computes, and waits for the wire, than the mean of the others; and how long each
  // of them waits for it.
  struct Excess {
    double compute = 0, exposed = 0, owed = 0;
    bool Explains(double ns) const { return ns > kExplains * owed; }
  };
  Excess ExcessOf(int rank) const {
    const RankFigures& own = figures_.ranks[rank];
    return {.compute = own.Compute() - MeanOfOthers(rank, [](const RankFigures& r) { return r.Compute(); }),
            .exposed =
                own.waits.exposed - MeanOfOthers(rank, [](const RankFigures& r) { return r.waits.exposed; }),
            .owed = own.caused / std::max(1.0, world_ - 1)};
  }

  // Not because it computes longer, but because it is held up in waits of its own: who waits for it waits
  // for a wire, or for whatever else keeps a rank in a wait.
  bool IsLateByWire(int rank) const {
    if (!(figures_.ranks[rank].caused > 0)) return false;
    const Excess excess = ExcessOf(rank);
    return !excess.Explains(excess.compute) && excess.Explains(excess.exposed) &&
           excess.exposed > kClear * figures_.ranks[rank].waits.exposed;
  }

  void AddIdle() {
    double left = waits_.Idle() - late_by_wire_;
    int latest = -1;
    for (size_t r = 0; r < figures_.ranks.size(); ++r) {
      const double caused = figures_.ranks[r].caused;
      if (IsKnown(caused) && !IsLateByWire(static_cast<int>(r)) &&
          (latest < 0 || caused > figures_.ranks[latest].caused))
        latest = static_cast<int>(r);
    }
    if (latest >= 0) {
      const double ns = figures_.ranks[latest].caused / world_, share = ns / std::max(1.0, left);
      if (share > std::min(kMuch / world_, kMostOwed) && share > 0.05) {
        AddLateRank(latest, ns, share);
        left -= ns;
      }
    }
    std::string what = latest >= 0 ? "ranks take turns at being late" : "ranks are late";
    double imbalance = kUnknown;
    for (const StepFigures& step : figures_.steps)
      imbalance = IsKnown(step.imbalance) ? step.imbalance : imbalance;
    if (IsKnown(imbalance))
      what += Format(": in a slot the busiest rank receives %.2f x the mean rows", imbalance);
    verdict_.causes.push_back(
        {left, what,
         "level the rows: a smaller parallel.replace_every, a larger moe.balance_coeff; a larger "
         "train.micro_batch evens them out"});
  }

  void AddLateRank(int rank, double ns, double share) {
    const RankFigures& late = figures_.ranks[rank];
    const double compute =
        late.Compute() / std::max(1.0, MeanOfOthers(rank, [](const RankFigures& r) { return r.Compute(); }));
    const double rows = late.rows / MeanOfOthers(rank, [](const RankFigures& r) { return r.rows; });
    WaitCause cause{.ns = ns};
    cause.what =
        Format("others wait for %s: %s of all idle time%s", RankName(rank), Percent(share), PlaceOf(rank));
    const Excess excess = ExcessOf(rank);
    if (!excess.Explains(excess.compute)) {
      cause.what += "; in all it computes no longer than the others";
      cause.change = "what it does before it is waited for: the time line shows it (--trace)";
    } else if (IsKnown(rows) && rows > 1.15 && rows - 1 > 0.3 * (compute - 1)) {
      cause.what += Format("; it receives %.2f x the rows of the others%s", rows, LayersOf(rank));
      cause.change = kHotExperts;
    } else {
      cause.what += Format("; it computes %.2f x as long as the others%s", compute,
                           IsKnown(rows) ? Format(" on %.2f x their rows", rows) : "");
      cause.change = manifest_.stages > 1
                         ? "a slow or shared host (unipool check_nodes), or an uneven cut of layers: "
                           "parallel.layers_per_stage"
                         : "a slow or shared processor: compare nodes with unipool check_nodes, or leave "
                           "this one out";
    }
    verdict_.causes.push_back(cause);
  }

  // The layers in which a rank receives clearly more rows than the mean of ranks.
  std::string LayersOf(int rank) const {
    std::vector<std::pair<double, int>> layers;
    for (const auto& [layer, rows] : figures_.rows) {
      double sum = 0;
      for (const double count : rows) sum += count;
      const double ratio = rows[rank] * static_cast<double>(rows.size()) / std::max(1.0, sum);
      if (layer >= 0 && ratio > 1.15) layers.emplace_back(ratio, layer);
    }
    if (layers.empty() || layers.size() == figures_.rows.size()) return "";
    std::sort(layers.rbegin(), layers.rend());
    layers.resize(std::min<size_t>(3, layers.size()));
    std::string text = ", most in layer";
    for (size_t i = 0; i < layers.size(); ++i)
      text += Format("%s %d (%.1f x)", i == 0 ? "" : ",", layers[i].second, layers[i].first);
    return text;
  }

  void AddStalled() {
    if (!IsStalled(waits_)) return;
    verdict_.causes.push_back(
        {waits_.stalled,
         "bytes stood still: a peer computed outside of MPI, which then moves nothing (stalled)",
         "parallel.progress_thread=ON, with a core for it"});
  }

  std::string ChangeOf(const std::string& operation, bool between_nodes, bool small) const {
    if (manifest_.carrier == "threads")
      return "threads have no wire: it is copying, or more ranks than cores (parallel.ranks)";
    if (small)
      return "messages are small, latency counts: a larger train.micro_batch makes them fewer and larger";
    if (!IsOfRows(operation)) return "once a step: a larger train.global_batch makes it rarer";
    return std::string(between_nodes
                           ? "fewer bytes between nodes: parallel.pool_replicas, a copy of the pool for "
                             "some of them; "
                           : "") +
           "fewer bytes at all: a smaller moe.top_k; parallel.lanes=INTERLEAVED hides most";
  }

  // The operation with the longest waits for the wire, all its layers and lanes together.
  void AddExposed() {
    struct Operation {
      double ns = 0;
      VolumeFigures volume;
    };
    std::map<std::string, Operation> operations;
    for (const auto& [key, cell] : figures_.cells) {
      Operation& operation = operations[std::get<1>(key)];
      operation.ns += cell.waits.exposed - cell.waits.stalled;
      operation.volume.Add(cell.volume);
    }
    if (!AddSlowWire() && late_by_wire_ > 0) {
      verdict_.causes.push_back(
          {late_by_wire_, "others wait for ranks that are held up in waits of their own: " + WireLateRanks(),
           IsOneNode()
               ? "what keeps a rank of one node in a wait is no wire: it was stopped, or shares its core "
                 "with others"
               : "their wires, or cores that they share with others: compare nodes with unipool "
                 "check_nodes"});
    }
    for (const auto& [name, operation] : operations) {
      const double bytes = operation.volume.Wire() / world_, count = operation.volume.exchanges / world_;
      if (bytes == 0 && operation.ns < 0.02 * step_) continue;
      WaitCause cause{.ns = operation.ns};
      cause.what = Format("'%s' waits for the wire: %.2f MB a rank and step in %.0f exchanges", name,
                          bytes / 1e6, count);
      if (operation.volume.inter > 0)
        cause.what +=
            Format(", %s of it between nodes", Percent(operation.volume.inter / operation.volume.Wire()));
      const double each = bytes / std::max(1.0, count);
      const bool small =
          count > 2 && (each < kSmallMessage ||
                        (evidence_ && evidence_->wire.alpha_ns() > evidence_->wire.beta_ns() * each));
      cause.change = ChangeOf(name, operation.volume.inter > 0, small);
      if (const int hot = HottestRank(); hot >= 0 && IsOfRows(name) && !small) {
        cause.what += Format("; %s receives %.2f x the rows of the others%s", RankName(hot), RowsRatio(hot),
                             LayersOf(hot));
        cause.change = kHotExperts;
      }
      verdict_.causes.push_back(cause);
    }
  }

  // Those that others wait for longest.
  std::string WireLateRanks() const {
    std::vector<int> ranks;
    for (int r = 0; r < static_cast<int>(figures_.ranks.size()); ++r) {
      if (IsLateByWire(r)) ranks.push_back(r);
    }
    std::stable_sort(ranks.begin(), ranks.end(),
                     [&](int a, int b) { return figures_.ranks[a].caused > figures_.ranks[b].caused; });
    ranks.resize(std::min<size_t>(ranks.size(), 4));
    std::string names;
    for (const int r : ranks) {
      names += Format("%srank %d (exposed %s)", names.empty() ? "" : ", ", r,
                      TimeText(figures_.ranks[r].waits.exposed));
    }
    return names;
  }

  static bool IsOfRows(const std::string& operation) {
    return operation.starts_with("dispatch") || operation.starts_with("combine");
  }

  double RowsRatio(int rank) const {
    return figures_.ranks[rank].rows / MeanOfOthers(rank, [](const RankFigures& r) { return r.rows; });
  }

  // That receives many more rows than the others; -1: none does.
  int HottestRank() const {
    int hottest = -1;
    for (int r = 0; r < static_cast<int>(figures_.ranks.size()); ++r) {
      const double ratio = RowsRatio(r);
      if (IsKnown(ratio) && ratio > kHot && (hottest < 0 || ratio > RowsRatio(hottest))) hottest = r;
    }
    return hottest;
  }

  // Whether there is one.
  bool AddSlowWire() {
    if (!traffic_) return false;
    const std::vector<SlowWire> wires = FindSlowWires(*traffic_, manifest_);
    for (const SlowWire& slow : wires) {
      WaitCause cause{.ns = waits_.exposed - waits_.stalled + late_by_wire_};
      const std::string others =
          IsKnown(slow.next_rate) ? Format(", what others get at %.1f MB/s", slow.next_rate / 1e6) : "";
      const std::string way =
          slow.to < 0     ? Format("what node %d sends", slow.from)
          : slow.from < 0 ? Format("what goes to node %d", slow.to)
                          : Format("what goes %s node %d %s node %d", slow.is_one_way ? "from" : "between",
                                   slow.from, slow.is_one_way ? "to" : "and", slow.to);
      const bool is_port = (slow.from < 0 || slow.to < 0) && !slow.is_one_way;
      cause.what = Format("a slow wire: %s comes at %.1f MB/s%s%s", way, slow.rate / 1e6, others,
                          is_port ? "; it may be slow the other way too" : "");
      cause.change =
          "look at that link: cable, switch port, other jobs; --matrix replays these bytes with nccl-tests";
      verdict_.causes.push_back(cause);
    }
    return !wires.empty();
  }

  void AddBlocked() {
    std::map<std::string, double> operations;
    for (const auto& [key, cell] : figures_.cells) operations[std::get<1>(key)] += cell.waits.blocked;
    for (const auto& [name, ns] : operations) {
      verdict_.causes.push_back({ns, Format("ranks are blocked in '%s'", name),
                                 "traffic.record=FULL tells late ranks from a slow wire"});
    }
  }

  const RecordedManifest& manifest_;
  const TrafficFigures& figures_;
  const JoinedTraffic* traffic_;
  const WaitEvidence* evidence_;
  const WaitFigures waits_;
  const double step_, world_;
  double late_by_wire_ = 0;  // idle time owed to a rank that a wire made late
  Verdict verdict_;
};

}  // namespace

bool IsStalled(const WaitFigures& waits) {
  return waits.stalled > 0.01 * waits.blocked;
}

std::string TimeText(double ns) {
  if (!IsKnown(ns)) return "unknown";
  if (std::abs(ns) >= 1e9) return Format("%.3f s", ns * 1e-9);
  if (std::abs(ns) >= 1e7) return Format("%.1f ms", ns * 1e-6);
  if (std::abs(ns) >= 1e6) return Format("%.2f ms", ns * 1e-6);
  return Format("%.0f us", ns * 1e-3);
}

Verdict Judge(const VerdictInputs& inputs) {
  return std::move(Judging(inputs).verdict());
}

}  // namespace unipool
