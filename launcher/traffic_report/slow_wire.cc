#include "launcher/traffic_report/slow_wire.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "launcher/traffic_report/wire_from_waits.h"

namespace unipool {
namespace {

constexpr size_t kFewestTimes = 8;     // of a pair of nodes
constexpr double kSlower = 1.0 / 0.6;  // times as slow as the slowest of the others
constexpr double kLeastShare = 0.25;   // of waits for the wire
constexpr double kFewestBytes = 0.25;  // of the large exchanges; small ones show latency

using Pair = std::pair<int, int>;  // nodes: from, to

// What came from one node to another in an exchange, and how long the receiver and the sender both waited
// until its last byte was there.
struct Arrival {
  int64_t exchange = 0;
  double bytes = 0, ns = 0;
};

// Of values with weights; kUnknown: there are none.
double WeightedQuantile(std::vector<std::pair<double, double>> values, double part) {
  std::sort(values.begin(), values.end());
  double whole = 0, below = 0;
  for (const auto& [value, weight] : values) whole += weight;
  for (const auto& [value, weight] : values) {
    below += weight;
    if (below >= part * whole) return value;
  }
  return kUnknown;
}

// A guess: what is slow.
struct Guess {
  SlowWire wire;
  bool Blames(const Pair& pair) const {
    const bool there = (wire.from < 0 || pair.first == wire.from) && (wire.to < 0 || pair.second == wire.to);
    const bool back = (wire.from < 0 || pair.second == wire.from) && (wire.to < 0 || pair.first == wire.to);
    return there || (wire.way == SlowWire::kBothWays && back);
  }
};

class ArrivalFinder {
 public:
  ArrivalFinder(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank)
      : traffic_(traffic), node_of_rank_(node_of_rank) {
    nodes_ = 1 + *std::max_element(node_of_rank_.begin(), node_of_rank_.end());
    for (size_t i = 0; i < traffic_.exchanges.size(); ++i) Collect(static_cast<int64_t>(i));
    LeaveOutSmall();
    for (const auto& [pair, arrivals] : arrivals_) {
      std::vector<std::pair<double, double>> times;
      for (const Arrival& a : arrivals) times.emplace_back(a.ns / a.bytes, a.bytes);
      if (times.size() < kFewestTimes) continue;
      ns_per_byte_[pair] = {.quick = WeightedQuantile(times, 0.25), .median = WeightedQuantile(times, 0.5)};
    }
  }
  bool HasArrivals() const { return !arrivals_.empty(); }

  std::vector<SlowWire> Find() const {
    if (ns_per_byte_.size() < 2) return {};
    const Guess* best = nullptr;
    double clearest = kSlower;
    const std::vector<Guess> guesses = Guesses();
    for (const Guess& guess : guesses) {
      const double separation = Separation(guess);
      if (separation < clearest) continue;
      clearest = separation;
      best = &guess;
    }
    if (!best) return {};
    SlowWire wire = best->wire;
    wire.share = ShareOf(*best);
    if (wire.share < kLeastShare) return {};
    const bool by_sender = wire.from >= 0;
    wire.rate = RateOf(
        [&](const Pair& pair) {
          return (by_sender ? pair.first : pair.second) == (by_sender ? wire.from : wire.to) &&
                 best->Blames(pair);
        },
        by_sender);
    wire.next_rate = RateOf([&](const Pair& pair) { return !best->Blames(pair); }, by_sender);
    if (!IsKnown(wire.rate)) return {};
    return {wire};
  }

 private:
  // Between nodes; the last of their ranks' counts.
  void Collect(int64_t index) {
    const JoinedExchange& exchange = traffic_.exchanges[index];
    std::map<Pair, Arrival> of_exchange;
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
        Arrival& arrival = of_exchange.try_emplace({from, to}, Arrival{.exchange = index}).first->second;
        arrival.bytes += static_cast<double>(peer.bytes_from);
        arrival.ns = std::max(arrival.ns, static_cast<double>(end - begin));
      }
    }
    for (const auto& [pair, arrival] : of_exchange) arrivals_[pair].push_back(arrival);
  }
  int NodeOf(const JoinedExchange& exchange, size_t part) const {
    return node_of_rank_[traffic_.WorldRank(exchange, static_cast<int>(part))];
  }

  void LeaveOutSmall() {
    std::vector<double> sizes;
    for (const auto& [pair, arrivals] : arrivals_) {
      for (const Arrival& arrival : arrivals) sizes.push_back(arrival.bytes);
    }
    if (sizes.empty()) return;
    const double large = kFewestBytes * Quantile(std::move(sizes), 0.9);
    for (auto& [pair, arrivals] : arrivals_)
      std::erase_if(arrivals, [&](const Arrival& a) { return a.bytes < large; });
  }

  std::vector<Guess> Guesses() const {
    std::vector<Guess> guesses;
    for (int node = 0; node < nodes_; ++node) {
      guesses.push_back({{.from = node, .way = SlowWire::kOneWay}});
      guesses.push_back({{.to = node, .way = SlowWire::kOneWay}});
      guesses.push_back({{.from = node, .way = SlowWire::kBothWays}});
    }
    for (const auto& [pair, ns] : ns_per_byte_) {
      guesses.push_back({{.from = pair.first, .to = pair.second, .way = SlowWire::kOneWay}});
      if (pair.first < pair.second)
        guesses.push_back({{.from = pair.first, .to = pair.second, .way = SlowWire::kBothWays}});
    }
    return guesses;
  }

  // How many times as slow the quickest pair that it blames is as the slowest of the others; 0: one of these
  // is missing. Bytes on a slow wire are never quick. Those of a rank that had no core are now and then: so
  // the quickest quarter of what is blamed counts.
  double Separation(const Guess& guess) const {
    double inside = -1;
    for (const auto& [pair, ns] : ns_per_byte_) {
      if (guess.Blames(pair)) inside = inside < 0 ? ns.quick : std::min(inside, ns.quick);
    }
    const double outside = SlowestOther(guess);
    if (inside <= 0 || outside < 0) return 0;
    return outside == 0 ? HUGE_VAL : inside / outside;
  }

  // -1: it blames all.
  double SlowestOther(const Guess& guess) const {
    double slowest = -1;
    for (const auto& [pair, ns] : ns_per_byte_) {
      if (!guess.Blames(pair)) slowest = std::max(slowest, ns.median);
    }
    return slowest;
  }

  // Of the time that nodes wait for bytes: what they would not, did the blamed ones come like the others.
  double ShareOf(const Guess& guess) const {
    struct Waits {
      double all = 0, others = 0;
    };
    const double outside = SlowestOther(guess);
    std::map<std::pair<int64_t, int>, Waits> waits;  // by exchange and receiver
    for (const auto& [pair, arrivals] : arrivals_) {
      for (const Arrival& arrival : arrivals) {
        Waits& wait = waits[{arrival.exchange, pair.second}];
        wait.all = std::max(wait.all, arrival.ns);
        const double like_others =
            guess.Blames(pair) ? std::min(arrival.ns, outside * arrival.bytes) : arrival.ns;
        wait.others = std::max(wait.others, like_others);
      }
    }
    double all = 0, others = 0;
    for (const auto& [key, wait] : waits) {
      all += wait.all;
      others += wait.others;
    }
    return all <= 0 ? 0 : 1 - others / all;
  }

  // Bytes a second of what one sender, or one receiver, has under way in an exchange, of the pairs chosen.
  template <class Chosen>
  double RateOf(const Chosen& chosen, bool by_sender) const {
    std::map<std::pair<int64_t, int>, Arrival> sums;
    for (const auto& [pair, arrivals] : arrivals_) {
      if (!chosen(pair)) continue;
      for (const Arrival& arrival : arrivals) {
        Arrival& sum = sums[{arrival.exchange, by_sender ? pair.first : pair.second}];
        sum.bytes += arrival.bytes;
        sum.ns = std::max(sum.ns, arrival.ns);
      }
    }
    std::vector<std::pair<double, double>> rates;
    for (const auto& [key, sum] : sums) {
      if (sum.ns > 0) rates.emplace_back(1e9 * sum.bytes / sum.ns, sum.bytes);
    }
    return rates.size() < kFewestTimes ? kUnknown : WeightedQuantile(std::move(rates), 0.5);
  }

  const JoinedTraffic& traffic_;
  const std::vector<int>& node_of_rank_;
  int nodes_ = 0;
  std::map<Pair, std::vector<Arrival>> arrivals_;
  struct Times {
    double quick = 0, median = 0;
  };
  std::map<Pair, Times> ns_per_byte_;  // weighted by bytes
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
