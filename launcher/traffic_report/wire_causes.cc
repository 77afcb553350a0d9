#include <algorithm>
#include <cmath>
#include <map>

#include "launcher/traffic_report/slow_wire.h"
#include "launcher/traffic_report/wait_causes.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kSmallMessage = 4096;  // bytes
constexpr double kLatencyCounts = 1e5;  // bytes; more take longer than the latency of any wire in use
constexpr double kHot = 1.5;            // of the rows of others: a rank with hot experts
constexpr double kHardlyWait = 20;      // times the rate of the slow wire
constexpr double kLittle = 0.1;         // of what is waited for wires
constexpr double kOffCore = 0.5;        // of a step
constexpr double kMoreOff = 1.25;       // than the ranks of other nodes
constexpr double kLess = 0.6;           // of the waits of other nodes: what it sends may be slow
constexpr const char* kFullDecides =
    "FULL decides which: traffic.record=FULL, or a number of steps in RUN_DIR/traffic/record while the run "
    "goes on, and this report again";

bool IsOfRows(const std::string& operation) {
  return operation.starts_with("dispatch") || operation.starts_with("combine");
}

class WireCauseFinder {
 public:
  explicit WireCauseFinder(const CauseInputs& inputs)
      : inputs_(inputs.inputs),
        manifest_(*inputs_.manifest),
        figures_(*inputs_.figures),
        traffic_(inputs_.traffic),
        evidence_(inputs_.evidence),
        shares_(inputs.shares),
        world_(static_cast<double>(figures_.ranks.size())) {
    if (HasNoWire(manifest_)) {
      AddCopies();
      return;
    }
    const double rest = 1 - AddSlowWire();
    if (rest < kLittle || (rest == 1 && AddUnknownWire())) return;
    if (rest == 1) AddLateByWire();
    AddOperations(rest);
  }
  std::vector<WaitCause>& causes() { return causes_; }

 private:
  void AddCopies() {
    causes_.push_back({shares_.copies,
                       "bytes are copied between ranks of the host, and ranks find out that they are",
                       std::string(manifest_.top_k > 1 ? "fewer bytes: a smaller moe.top_k; " : "") +
                           "fewer exchanges: a larger train.micro_batch; fewer ranks on the host"});
  }

  // Its share of what is waited for wires; 0: there is none.
  double AddSlowWire() {
    const std::vector<SlowWire>& wires = shares_.slow_wires;
    for (const SlowWire& slow : wires) {
      const char* kind = slow.from < 0 ? "what goes to others"
                         : slow.to < 0 ? "what others send"
                                       : "other links";
      std::string others = !IsKnown(slow.next_rate) ? ""
                           : slow.next_rate > kHardlyWait * slow.rate
                               ? ", what others get is hardly waited for"
                               : Format(", %s at %.1f MB/s", kind, slow.next_rate / 1e6);
      if (IsKnown(slow.times)) others += Format(": %.2f x as long", slow.times);
      const std::string way =
          slow.to < 0 ? Format("what node %d sends", slow.from)
          : slow.from < 0
              ? Format("what goes to node %d", slow.to)
              : Format("what goes %s node %d %s node %d", slow.way == SlowWire::kOneWay ? "from" : "between",
                       slow.from, slow.way == SlowWire::kOneWay ? "to" : "and", slow.to);
      const bool is_port = slow.from < 0 || slow.to < 0;
      const std::string back = IsKnown(slow.back_rate) ? Format(", at %.1f MB/s", slow.back_rate / 1e6) : "";
      const std::string other_way = slow.way == SlowWire::kOneWay       ? ""
                                    : slow.way == SlowWire::kUnknownWay ? "; it may be slow the other way too"
                                    : is_port      ? "; what goes to it is slow too" + back
                                    : back.empty() ? ""
                                                   : "; the other way too" + back;
      causes_.push_back(
          {shares_.Wire() * slow.share,
           Format("a slow wire: %s comes at %.1f MB/s%s%s", way, slow.rate / 1e6, others, other_way) +
               NoCoreText(slow),
           "look at that link: cable, switch port, other jobs; --matrix replays these bytes "
           "with nccl-tests",
           /*is_fault=*/true});
    }
    return wires.empty() ? 0 : wires.front().share;
  }

  // Of a step, how long the ranks of a node had no core, or others'; NaN: not known.
  double OffCore(int node, bool others) const {
    double off = 0, all = 0;
    for (size_t r = 0; r < figures_.ranks.size(); ++r) {
      if ((manifest_.node_of_rank[r] == node) == others) continue;
      off += figures_.ranks[r].off_core;
      all += figures_.ranks[r].step;
    }
    return off / std::max(1.0, all);
  }

  // Bytes come late to and from ranks that have no core to look. Ranks give it away while they wait, all
  // alike.
  bool LacksCore(int node) const {
    const double off = OffCore(node, false);
    return off > kOffCore && off > kMoreOff * OffCore(node, true);
  }

  std::string NoCoreText(const SlowWire& slow) const {
    for (const int node : {slow.from, slow.to}) {
      if (node >= 0 && LacksCore(node))
        return Format("; ranks of node %d had no core for %s of a step, which looks alike", node,
                      PercentText(OffCore(node, false)));
    }
    return "";
  }

  // Sums tell that wires hold ranks up, and not which one: those that are held up are not at fault.
  bool AddUnknownWire() {
    const std::string guess = GuessText();
    if (traffic_ || manifest_.carrier == "emulated" ||
        (guess.empty() && shares_.WireLate() < 0.1 * shares_.Wire()))
      return false;
    causes_.push_back({shares_.Wire(),
                       "ranks wait for wires between nodes, and for others that do; whether one of them is "
                       "slow, and which, these sums do not tell" +
                           guess,
                       kFullDecides});
    return true;
  }

  // A slow sender's own waits are the short ones; those of who cannot receive are the long ones.
  std::string GuessText() const {
    std::map<int, std::pair<double, int>> nodes;  // exposed, and ranks
    for (size_t r = 0; r < figures_.ranks.size(); ++r) {
      auto& [exposed, ranks] = nodes[manifest_.node_of_rank[r]];
      exposed += shares_.held[r].wire;
      ++ranks;
    }
    std::vector<std::pair<double, int>> order;
    for (const auto& [node, sum] : nodes) order.emplace_back(sum.first / sum.second, node);
    std::sort(order.begin(), order.end());
    const size_t count = order.size();
    if (count < 2) return "";
    const auto [least, least_node] = order[0];
    const auto [most, most_node] = order[count - 1];
    const double second = order[1].first, next = order[count - 2].first;
    if (LacksCore(least_node) || LacksCore(most_node)) return "";
    if (least < kLess * second)
      return Format("; node %d waits %s and others %s or more, so perhaps it is what node %d sends",
                    least_node, TimeText(least), TimeText(second), least_node);
    if (next < kLess * most)
      return Format("; node %d waits %s and others %s or less, so perhaps it is what goes to node %d",
                    most_node, TimeText(most), TimeText(next), most_node);
    return "";
  }

  // Those that wait for a wire are not at fault. Only where wires are described are they the slow ones.
  void AddLateByWire() {
    if (shares_.WireLate() <= 0) return;
    const int hot = HottestRank();
    if (hot >= 0 || manifest_.carrier != "emulated") {
      WaitCause cause{.ns = shares_.WireLate(),
                      .what = "others wait for ranks that wait for wires themselves; ",
                      .change = FewerBytes(true)};
      if (hot >= 0) {
        cause.what += RankName(manifest_, hot) + " " + MoreRowsText(inputs_, hot);
        cause.change = HotExpertsAdvice(manifest_);
      } else {
        cause.what += "no wire is clearly slower than the rest";
      }
      causes_.push_back(cause);
      return;
    }
    std::vector<size_t> ranks;
    for (size_t r = 0; r < shares_.late.size(); ++r) {
      if (shares_.late[r].wire > 0) ranks.push_back(r);
    }
    std::stable_sort(ranks.begin(), ranks.end(),
                     [&](size_t a, size_t b) { return shares_.late[a].wire > shares_.late[b].wire; });
    ranks.resize(std::min<size_t>(ranks.size(), 4));
    std::string names;
    for (const size_t r : ranks) {
      names += Format("%s%s (exposed %s)", names.empty() ? "" : ", ",
                      RankName(manifest_, static_cast<int>(r)), TimeText(figures_.ranks[r].waits.exposed));
    }
    causes_.push_back({shares_.WireLate(), "others wait for ranks whose bytes come late: " + names,
                       "the wires that parallel.emulate describes, or fewer bytes on them"});
  }

  // With all layers and lanes together; `part` of what they wait.
  void AddOperations(double part) {
    struct Operation {
      double ns = 0;
      VolumeFigures volume;
    };
    std::map<std::string, Operation> operations;
    double all = 0;
    for (const auto& [key, cell] : figures_.cells) {
      const double ns = std::max(0.0, cell.waits.exposed - cell.waits.stalled);
      Operation& operation = operations[std::get<1>(key)];
      operation.ns += ns;
      operation.volume.Add(cell.volume);
      all += ns;
    }
    for (auto& [name, operation] : operations) {
      operation.ns *= part * std::min(1.0, shares_.wire_waits / std::max(1.0, all));  // the rest had no core
      AddOperation(name, operation.ns, operation.volume);
    }
  }

  void AddOperation(const std::string& name, double ns, const VolumeFigures& volume) {
    const double bytes = volume.Wire() / world_, count = volume.exchanges / world_;
    WaitCause cause{.ns = ns};
    cause.what = Format("'%s' waits for the wire: %.2f MB a rank and step in %.0f %s", name, bytes / 1e6,
                        count, std::lround(count) == 1 ? "exchange" : "exchanges");
    if (volume.inter > 0)
      cause.what += Format(", %s of it between nodes", PercentText(volume.inter / volume.Wire()));
    const bool small = LatencyCounts(name, bytes / std::max(1.0, count));
    cause.change = ChangeOf(name, count, volume.inter > 0, small);
    if (const int hot = HottestRank(); hot >= 0 && IsOfRows(name) && !small) {
      cause.what += "; " + RankName(manifest_, hot) + " " + MoreRowsText(inputs_, hot);
      cause.change = HotExpertsAdvice(manifest_);
    }
    causes_.push_back(cause);
  }

  // Of messages of so many bytes in an operation: half of their time or more does not come from bytes.
  bool LatencyCounts(const std::string& operation, double each) const {
    if (each < kSmallMessage) return true;
    if (each >= kLatencyCounts || !evidence_) return false;
    if (manifest_.carrier != "emulated" || !traffic_)
      return evidence_->wire.alpha_ns() > evidence_->wire.beta_ns() * each;
    double sums[2] = {0, 0}, counts[2] = {0, 0};  // times of small messages; of the operation
    for (const JoinedExchange& exchange : traffic_->exchanges) {
      const bool is_of_operation = traffic_->operations[exchange.operation] == operation;
      for (const ExchangePart& part : exchange.parts) {
        const int64_t bytes = part.recorded ? BytesOnWire(part) : 0;
        if (bytes == 0 || part.recorded->record.wire_ns < 0) continue;
        const bool is_small = static_cast<double>(bytes) < kSmallMessage;
        for (const int i : {0, 1}) {
          const bool counts_here = i == 0 ? is_small : is_of_operation;
          sums[i] += counts_here ? static_cast<double>(part.recorded->record.wire_ns) : 0;
          counts[i] += counts_here;
        }
      }
    }
    return counts[0] > 0 && counts[1] > 0 && 2 * sums[0] / counts[0] > sums[1] / counts[1];
  }

  // `count`: exchanges of a rank and step.
  std::string ChangeOf(const std::string& operation, double count, bool between_nodes, bool small) const {
    const bool is_of_rows = IsOfRows(operation) || operation.starts_with("counts");
    if (!is_of_rows && count < std::max(2, manifest_.microbatches))
      return small ? "few bytes, and rarely: the latency of wires counts, and no setting changes it"
                   : "not in each microbatch: a larger train.global_batch makes it rarer";
    if (!is_of_rows && !small)
      return operation.find("head") != operation.npos
                 ? "parallel.head=LAST_STAGE sends no rows of the head; or fewer parallel.stages"
                 : "what stages hand on in each microbatch: fewer parallel.stages";
    if (small)
      return "messages are small, latency counts: a larger train.micro_batch makes them fewer and larger";
    return FewerBytes(between_nodes);
  }

  std::string FewerBytes(bool between_nodes) const {
    return std::string(between_nodes
                           ? "fewer bytes between nodes: parallel.pool_replicas, a copy of the pool "
                             "for some of them; "
                           : "") +
           (manifest_.top_k > 1 ? "fewer bytes at all: a smaller moe.top_k; " : "") +
           "parallel.lanes=INTERLEAVED, the default, hides most";
  }

  // That receives many more rows than the others; -1: none does.
  int HottestRank() const {
    int hottest = -1;
    for (int r = 0; r < static_cast<int>(figures_.ranks.size()); ++r) {
      const double ratio = RowsRatio(figures_, r);
      if (IsKnown(ratio) && ratio > kHot && (hottest < 0 || ratio > RowsRatio(figures_, hottest)))
        hottest = r;
    }
    return hottest;
  }

  const VerdictInputs& inputs_;
  const RecordedManifest& manifest_;
  const TrafficFigures& figures_;
  const JoinedTraffic* const traffic_;
  const WaitEvidence* const evidence_;
  const WaitShares& shares_;
  const double world_;
  std::vector<WaitCause> causes_;
};

}  // namespace

std::vector<WaitCause> WireCauses(const CauseInputs& inputs) {
  return std::move(WireCauseFinder(inputs).causes());
}

}  // namespace unipool
