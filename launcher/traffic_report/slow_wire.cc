#include "launcher/traffic_report/slow_wire.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "launcher/traffic_report/wire_from_waits.h"

namespace unipool {
namespace {

constexpr size_t kFewestExchanges = 8;
constexpr double kSlower = 1.4;       // times as slow as the slowest of the others, in an exchange
constexpr double kMostOften = 0.5;    // of the bytes of exchanges that anybody waits for
constexpr double kLink = 0.1;         // a slow link makes its ports slow, as often
constexpr double kLeastShare = 0.25;  // of waits for the wire
constexpr double kLarge = 0.25;       // of the large exchanges; small ones show latency
constexpr int kMostNodesForLinks = 16;
constexpr size_t kMostPorts = 8;           // of more nodes, whose ports are guesses
constexpr size_t kMostWork = 500'000'000;  // guesses x pairs of nodes x exchanges

// What came from one node to another in an exchange, and how long the receiver and the sender both waited
// until its last byte was there.
struct Arrival {
  int from = 0, to = 0;
  double bytes = 0, ns = 0;
};
using Exchange = std::vector<Arrival>;

struct Group {
  double bytes = 0, ns = 0;
  void Add(const Arrival& arrival) {
    bytes += arrival.bytes;
    ns = std::max(ns, arrival.ns);
  }
  double NsPerByte() const { return bytes > 0 ? ns / bytes : 0; }
};

// A guess: what is slow.
struct Guess {
  SlowWire wire;
  double wins = 0, whole = 0;  // bytes of exchanges in which it is clearly the slowest, and of all
  size_t exchanges = 0;
  double Often() const { return whole > 0 ? wins / whole : 0; }
  bool IsPort() const { return wire.from < 0 || wire.to < 0; }
  bool BlamesThere(const Arrival& a) const {
    return (wire.from < 0 || a.from == wire.from) && (wire.to < 0 || a.to == wire.to);
  }
  bool BlamesBack(const Arrival& a) const {
    return wire.way == SlowWire::kBothWays && (wire.from < 0 || a.to == wire.from) &&
           (wire.to < 0 || a.from == wire.to);
  }
  bool Blames(const Arrival& a) const { return BlamesThere(a) || BlamesBack(a); }
};

class ArrivalFinder {
 public:
  ArrivalFinder(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank)
      : traffic_(traffic), node_of_rank_(node_of_rank) {
    nodes_ = 1 + *std::max_element(node_of_rank_.begin(), node_of_rank_.end());
    for (const JoinedExchange& exchange : traffic_.exchanges) Collect(exchange);
    LeaveOutSmall();
  }
  bool HasArrivals() const { return has_arrivals_; }

  std::vector<SlowWire> Find() const {
    if (exchanges_.size() < kFewestExchanges) return {};
    std::vector<Guess> guesses = Guesses();
    const size_t work = guesses.size() * static_cast<size_t>(nodes_ * nodes_) * exchanges_.size();
    const size_t stride = 1 + work / kMostWork;
    for (size_t i = 0; i < exchanges_.size(); i += stride) {
      for (Guess& guess : guesses) Judge(guess, exchanges_[i]);
    }
    const auto less_often = [](const Guess& a, const Guess& b) {
      return a.Often() - (a.IsPort() ? kLink : 0) < b.Often() - (b.IsPort() ? kLink : 0);
    };
    const Guess& best = *std::max_element(guesses.begin(), guesses.end(), less_often);
    // A rank without a core may be the slowest now and then; its standard error is at most that of a coin.
    if (best.exchanges < kFewestExchanges ||
        best.Often() < kMostOften + 0.5 / std::sqrt(static_cast<double>(best.exchanges)))
      return {};
    SlowWire wire = best.wire;
    wire.share = ShareOf(best);
    if (wire.share < kLeastShare) return {};
    wire.rate = RateOf(best, true);
    wire.next_rate = RateOf(best, false);
    if (!IsKnown(wire.rate)) return {};
    return {wire};
  }

 private:
  // Between nodes; the last of their ranks' counts.
  void Collect(const JoinedExchange& exchange) {
    std::map<std::pair<int, int>, Arrival> arrivals;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.exposed < 0) return;
      const int to = NodeOf(exchange, p);
      for (const PeerBytes& peer : part.recorded->peers) {
        const int from = NodeOf(exchange, peer.peer);
        if (from == to || peer.bytes_from <= 0) continue;
        if (peer.arrived_us < 0) return;
        const ExchangePart& sender = exchange.parts[peer.peer];
        const int64_t begin = std::max({part.start, sender.start, part.wait_enter, sender.wait_enter});
        const int64_t end = part.start + int64_t{1000} * peer.arrived_us;
        Arrival& arrival = arrivals.try_emplace({from, to}, Arrival{.from = from, .to = to}).first->second;
        arrival.bytes += static_cast<double>(peer.bytes_from);
        arrival.ns = std::max(arrival.ns, static_cast<double>(end - begin));
      }
    }
    if (arrivals.empty()) return;
    has_arrivals_ = true;
    Exchange all;
    for (const auto& [pair, arrival] : arrivals) all.push_back(arrival);
    exchanges_.push_back(std::move(all));
  }
  int NodeOf(const JoinedExchange& exchange, size_t part) const {
    return node_of_rank_[traffic_.WorldRank(exchange, static_cast<int>(part))];
  }

  static double LargestOf(const Exchange& exchange) {
    double largest = 0;
    for (const Arrival& arrival : exchange) largest = std::max(largest, arrival.bytes);
    return largest;
  }
  // And those that nobody waited for.
  void LeaveOutSmall() {
    std::vector<double> sizes;
    for (const Exchange& exchange : exchanges_) sizes.push_back(LargestOf(exchange));
    if (sizes.empty()) return;
    const double large = kLarge * Quantile(std::move(sizes), 0.9);
    std::erase_if(exchanges_, [&](const Exchange& exchange) {
      const bool nobody_waited =
          std::all_of(exchange.begin(), exchange.end(), [](const Arrival& a) { return a.ns <= 0; });
      return LargestOf(exchange) < large || nobody_waited;
    });
  }

  // Nodes whose port may be slow: of many, those whose bytes are waited for longest.
  std::vector<int> Suspects() const {
    std::vector<std::pair<double, int>> slowest(nodes_);
    for (int node = 0; node < nodes_; ++node) slowest[node].second = node;
    for (const Exchange& exchange : exchanges_) {
      for (const Arrival& a : exchange) {
        slowest[a.from].first += a.ns;
        slowest[a.to].first += a.ns;
      }
    }
    std::stable_sort(slowest.begin(), slowest.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    if (nodes_ > kMostNodesForLinks) slowest.resize(kMostPorts);
    std::vector<int> suspects;
    for (const auto& [ns, node] : slowest) suspects.push_back(node);
    return suspects;
  }

  std::vector<Guess> Guesses() const {
    std::vector<Guess> guesses;
    for (const int node : Suspects()) {
      if (nodes_ == 2) {
        guesses.push_back({{.from = node, .to = 1 - node, .way = SlowWire::kOneWay}});
        continue;
      }
      guesses.push_back({{.from = node, .way = SlowWire::kOneWay}});
      guesses.push_back({{.to = node, .way = SlowWire::kOneWay}});
      guesses.push_back({{.from = node, .way = SlowWire::kBothWays}});
    }
    if (nodes_ < 3 || nodes_ > kMostNodesForLinks) return guesses;
    for (int from = 0; from < nodes_; ++from) {
      for (int to = 0; to < nodes_; ++to) {
        if (from != to) guesses.push_back({{.from = from, .to = to, .way = SlowWire::kOneWay}});
        if (from < to) guesses.push_back({{.from = from, .to = to, .way = SlowWire::kBothWays}});
      }
    }
    return guesses;
  }

  // Whether what the guess blames is clearly slower in this exchange than all the rest. Bytes that share a
  // port are looked at together, since who is served first is quick.
  void Judge(Guess& guess, const Exchange& exchange) const {
    Group there, back;
    std::vector<Group> out(nodes_), in(nodes_);
    double slowest = 0, bytes = 0;  // of single links
    bool has_others = false;
    for (const Arrival& a : exchange) {
      bytes += a.bytes;
      if (guess.BlamesThere(a)) there.Add(a);
      if (guess.BlamesBack(a)) back.Add(a);
      if (guess.Blames(a)) continue;
      has_others = true;
      if (guess.IsPort()) {
        out[a.from].Add(a);
        in[a.to].Add(a);
      } else {
        slowest = std::max(slowest, a.ns / a.bytes);
      }
    }
    const bool both = guess.wire.way == SlowWire::kBothWays;
    if (!has_others || there.bytes <= 0 || (both && back.bytes <= 0)) return;
    for (const auto* groups : {&out, &in}) {
      for (const Group& group : *groups) slowest = std::max(slowest, group.NsPerByte());
    }
    const double blamed = both ? std::min(there.NsPerByte(), back.NsPerByte()) : there.NsPerByte();
    ++guess.exchanges;
    guess.whole += bytes;
    // Of links of one sender the last that it serves may be so much slower than the last but one.
    const double in_turn = guess.IsPort() || nodes_ < 3 ? 1 : (nodes_ - 1.0) / (nodes_ - 2.0);
    if (blamed > kSlower * in_turn * slowest) guess.wins += bytes;
  }

  // Of the time that nodes wait for bytes: what they would not, did the blamed ones come like the others.
  double ShareOf(const Guess& guess) const {
    double all = 0, others = 0;
    for (const Exchange& exchange : exchanges_) {
      double slowest = 0;
      for (const Arrival& a : exchange) {
        if (!guess.Blames(a)) slowest = std::max(slowest, a.ns / a.bytes);
      }
      std::map<int, std::pair<double, double>> waits;  // by receiver: now, and then
      for (const Arrival& a : exchange) {
        auto& [now, then] = waits[a.to];
        now = std::max(now, a.ns);
        then = std::max(then, guess.Blames(a) ? std::min(a.ns, slowest * a.bytes) : a.ns);
      }
      for (const auto& [node, wait] : waits) {
        all += wait.first;
        others += wait.second;
      }
    }
    return all <= 0 ? 0 : 1 - others / all;
  }

  // Bytes a second of what one sender (or one receiver, where that is blamed) has under way in an exchange:
  // the median of what is blamed, or of what is not.
  double RateOf(const Guess& guess, bool blamed) const {
    const bool by_sender = guess.wire.from >= 0;
    std::vector<double> rates;
    for (const Exchange& exchange : exchanges_) {
      std::map<int, Group> groups;
      for (const Arrival& a : exchange) {
        if (blamed ? guess.BlamesThere(a) : !guess.Blames(a)) groups[by_sender ? a.from : a.to].Add(a);
      }
      for (const auto& [node, group] : groups) {
        if (group.ns > 0) rates.push_back(1e9 * group.bytes / group.ns);
      }
    }
    return rates.size() < kFewestExchanges ? kUnknown : Quantile(std::move(rates), 0.5);
  }

  const JoinedTraffic& traffic_;
  const std::vector<int>& node_of_rank_;
  int nodes_ = 0;
  bool has_arrivals_ = false;
  std::vector<Exchange> exchanges_;
};

}  // namespace

std::vector<SlowWire> FindSlowWires(const JoinedTraffic& traffic, const RecordedManifest& manifest) {
  if (manifest.carrier == "emulated" || manifest.carrier == "threads") return {};
  const std::vector<int>& nodes = manifest.node_of_rank;
  if (*std::max_element(nodes.begin(), nodes.end()) == 0) return {};
  const ArrivalFinder finder(traffic, nodes);
  return finder.HasArrivals() ? finder.Find() : WireFromWaits(traffic, nodes);
}

}  // namespace unipool
