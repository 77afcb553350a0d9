#include "launcher/traffic_report/slow_wire.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "launcher/traffic_report/arrival_pairs.h"
#include "launcher/traffic_report/wire_from_waits.h"

namespace unipool {
namespace {

constexpr size_t kFewestExchanges = 8;
constexpr size_t kParts = 10;    // of the exchanges: each is left out once, which shows how sure a number is
constexpr double kLeast = 1.15;  // times as long as the others' bytes take
constexpr double kLeastOfMany = 1.5;   // where level times are known roughly
constexpr double kSure = 4;            // standard errors by which they take longer
constexpr double kMostOfOthers = 0.5;  // of that, in logarithms, the slowest other
constexpr double kLeastShare = 0.05;   // of waits for the wire
constexpr int kMostNodesForLinks = 16;
constexpr size_t kMostPorts = 8;  // of more nodes, whose ports are guesses
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A guess: what is slow.
struct Guess {
  SlowWire wire;
  bool IsPort() const { return wire.from < 0 || wire.to < 0; }
  bool BlamesThere(int from, int to) const {
    return (wire.from < 0 || from == wire.from) && (wire.to < 0 || to == wire.to);
  }
  bool BlamesBack(int from, int to) const {
    return wire.way == SlowWire::kBothWays && (wire.from < 0 || to == wire.from) &&
           (wire.to < 0 || from == wire.to);
  }
  bool Blames(int from, int to) const { return BlamesThere(from, to) || BlamesBack(from, to); }
};

// kUnknown: of none.
double MedianOf(std::vector<double>& values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return kUnknown;
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

class Finder {
 public:
  explicit Finder(const ArrivalPairs& arrivals)
      : arrivals_(arrivals), nodes_(arrivals.nodes()), exchanges_(arrivals.exchanges()) {}

  std::vector<SlowWire> Find() const {
    if (exchanges_.size() < kFewestExchanges) return {};
    const PairSlowness all = arrivals_.Slowness(0, 0);
    Guess best;
    Fit best_fit;
    for (const Guess& guess : Guesses(all)) {
      const Fit fit = FitOf(guess, all);
      if (fit.own - fit.others <= best_fit.own - best_fit.others) continue;
      best = guess;
      best_fit = fit;
    }
    if (best_fit.others > kMostOfOthers * best_fit.own || !IsSure(best, best_fit.own)) return {};
    return Describe(best, best_fit, all);
  }

 private:
  // How well a guess fits: logarithms of how many times as long as the middle of the others it takes.
  struct Fit {
    double own = -kInfinity;  // what is blamed; where both ways are, the quicker one
    double others = 0;        // the slowest other of its kind, the other way aside
    double back = 0;          // the other way, at most
  };

  bool IsSure(const Guess& guess, double own) const {
    const double least = nodes_ > ArrivalPairs::kMostNodes ? kLeastOfMany : kLeast;
    return own >= std::log(least) && own >= kSure * ErrorOf(guess);
  }

  std::vector<SlowWire> Describe(Guess best, const Fit& fit, const PairSlowness& all) const {
    Guess both{best.wire};
    both.wire.way = SlowWire::kBothWays;
    if (best.wire.from < 0) std::swap(both.wire.from, both.wire.to);
    const double own_of_both = nodes_ == 2 ? 0 : FitOf(both, all).own;
    if (own_of_both > kMostOfOthers * fit.own && IsSure(both, own_of_both)) best = both;
    const bool is_both = best.wire.way == SlowWire::kBothWays;
    if (!is_both && nodes_ > 2 && fit.back > kMostOfOthers * fit.own) best.wire.way = SlowWire::kUnknownWay;
    if (!best.IsPort() && is_both && best.wire.from > best.wire.to) std::swap(best.wire.from, best.wire.to);
    SlowWire wire = best.wire;
    wire.times = std::exp(is_both ? own_of_both : fit.own);
    wire.share = ShareOf(best, wire.times);
    if (wire.share < kLeastShare) return {};
    const auto there = [&](int from, int to) { return best.BlamesThere(from, to); };
    const auto back = [&](int from, int to) { return best.BlamesBack(from, to); };
    const auto rest = [&](int from, int to) { return !best.Blames(from, to); };
    const bool by_sender = wire.from >= 0;
    wire.rate = RateOf(best, there, by_sender);
    if (is_both) wire.back_rate = RateOf(best, back, !by_sender);
    wire.next_rate = RateOf(best, rest, by_sender);
    if (!IsKnown(wire.rate)) return {};
    return {wire};
  }

  // Nodes whose port may be slow: of many, those whose bytes take longest.
  std::vector<int> Suspects(const PairSlowness& all) const {
    std::vector<std::pair<double, int>> slowest;
    for (int node = 0; node < nodes_; ++node) {
      std::vector<double> out, in;
      for (int other = 0; other < nodes_; ++other) {
        out.push_back(all.High(node, other));
        in.push_back(all.High(other, node));
      }
      const double a = MedianOf(out), b = MedianOf(in);
      slowest.emplace_back(std::max(std::isnan(a) ? -kInfinity : a, std::isnan(b) ? -kInfinity : b), node);
    }
    std::stable_sort(slowest.begin(), slowest.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    if (nodes_ > kMostNodesForLinks) slowest.resize(kMostPorts);
    std::vector<int> suspects;
    for (const auto& [slowness, node] : slowest) suspects.push_back(node);
    return suspects;
  }

  std::vector<Guess> Guesses(const PairSlowness& all) const {
    std::vector<Guess> guesses;
    for (const int node : Suspects(all)) {
      if (nodes_ == 2) {
        guesses.push_back({{.from = node, .to = 1 - node, .way = SlowWire::kOneWay}});
        continue;
      }
      guesses.push_back({{.from = node, .way = SlowWire::kOneWay}});
      guesses.push_back({{.to = node, .way = SlowWire::kOneWay}});
    }
    if (nodes_ < 3 || nodes_ > kMostNodesForLinks) return guesses;
    for (int from = 0; from < nodes_; ++from) {
      for (int to = 0; to < nodes_; ++to) {
        if (from != to) guesses.push_back({{.from = from, .to = to, .way = SlowWire::kOneWay}});
      }
    }
    return guesses;
  }

  template <class Visit>
  void ForPairs(Visit visit) const {
    for (int from = 0; from < nodes_; ++from) {
      for (int to = 0; to < nodes_; ++to) {
        if (from != to) visit(from, to);
      }
    }
  }
  size_t TurnOf(int from, int to) const { return (to - from + nodes_) % nodes_; }

  // The other way of what is blamed: it may be slow too.
  bool IsAside(const Guess& guess, int from, int to) const {
    const Guess reverse{{.from = guess.wire.to, .to = guess.wire.from}};
    return nodes_ > 2 && !guess.Blames(from, to) && reverse.BlamesThere(from, to);
  }

  // A sender may serve others in turn, all senders in the same: how much longer who comes then waits, by
  // distance, as those show that are not blamed.
  std::vector<double> Turns(const Guess& guess, const PairSlowness& slowness) const {
    std::vector<std::vector<double>> by_distance(nodes_);
    std::vector<double> turns(nodes_), others;
    ForPairs([&](int from, int to) {
      if (guess.Blames(from, to) || IsAside(guess, from, to)) return;
      by_distance[TurnOf(from, to)].push_back(slowness.High(from, to));
      others.push_back(slowness.High(from, to));
    });
    const double middle = MedianOf(others);
    for (int distance = 1; distance < nodes_; ++distance) {
      const double turn = MedianOf(by_distance[distance]);
      turns[distance] = IsKnown(turn) ? turn : middle;
    }
    return turns;
  }

  // `slowness`: of all exchanges, or of some.
  Fit FitOf(const Guess& guess, const PairSlowness& slowness) const {
    const std::vector<double> turns = Turns(guess, slowness);
    std::vector<double> there, back, other_way, links;
    std::vector<std::vector<double>> out(nodes_), in(nodes_);
    ForPairs([&](int from, int to) {
      double turn = turns[TurnOf(from, to)];
      if (!guess.IsPort()) turn = std::max(0.0, turn);  // beside a slow link others in its turn are quick
      if (guess.BlamesThere(from, to)) there.push_back(slowness.Low(from, to) - turn);
      if (guess.BlamesBack(from, to)) back.push_back(slowness.Low(from, to) - turn);
      if (guess.Blames(from, to)) return;
      const double other = slowness.High(from, to) - turn;
      if (IsAside(guess, from, to)) {
        other_way.push_back(other);
        return;
      }
      out[from].push_back(other);
      in[to].push_back(other);
      links.push_back(other);
    });
    Fit fit{.own = MedianOf(there)};
    if (guess.wire.way == SlowWire::kBothWays) fit.own = std::min(fit.own, MedianOf(back));
    if (std::isnan(fit.own) || links.empty()) fit.own = -kInfinity;
    const auto take = [](double one, double& most) { most = IsKnown(one) ? std::max(most, one) : most; };
    take(MedianOf(other_way), fit.back);
    for (int node = 0; node < nodes_ && guess.IsPort(); ++node) {
      if (node != guess.wire.to) take(MedianOf(out[node]), fit.others);
      if (node != guess.wire.from) take(MedianOf(in[node]), fit.others);
    }
    for (const double one : links) {
      if (!guess.IsPort()) take(one, fit.others);
    }
    return fit;
  }

  // The standard error of the guess's own time.
  double ErrorOf(const Guess& guess) const {
    const size_t parts = std::min(kParts, exchanges_.size());
    std::vector<double> margins;
    double mean = 0, sum = 0;
    for (size_t part = 0; part < parts; ++part) {
      margins.push_back(FitOf(guess, arrivals_.Slowness(part * exchanges_.size() / parts,
                                                        (part + 1) * exchanges_.size() / parts))
                            .own);
      mean += margins.back() / static_cast<double>(parts);
    }
    for (const double margin : margins) sum += (margin - mean) * (margin - mean);
    return std::sqrt(sum * (static_cast<double>(parts) - 1) / static_cast<double>(parts));
  }

  const PairArrival& At(const PairExchange& exchange, int from, int to) const {
    return exchange.pairs[static_cast<size_t>(from) * nodes_ + to];
  }

  // Of the longest wait for bytes in each exchange, which all others wait for in the end: what it would not
  // take, were the blamed bytes so many times as quick.
  double ShareOf(const Guess& guess, double times) const {
    double all = 0, others = 0;
    for (const PairExchange& exchange : exchanges_) {
      double now = 0, then = 0;
      for (int to = 0; to < nodes_; ++to) {
        for (int from = 0; from < nodes_; ++from) {
          const PairArrival& pair = At(exchange, from, to);
          if (from == to || pair.bytes <= 0) continue;
          const double saved = guess.Blames(from, to) ? pair.ns * (1 - 1 / times) : 0;
          now = std::max(now, pair.held_ns);
          then = std::max(then, pair.held_ns - saved);
        }
      }
      all += now;
      others += then;
    }
    return all <= 0 ? 0 : 1 - others / all;
  }

  // Bytes a second, the median over exchanges and nodes: of what one node sends, or receives, until the last
  // of the chosen pairs has come, and with it what had come of the others by then; or of single links.
  template <class Chosen>
  double RateOf(const Guess& guess, Chosen chosen, bool by_sender) const {
    std::vector<double> rates;
    for (const PairExchange& exchange : exchanges_) {
      for (int node = 0; node < nodes_; ++node) AddRates(guess, exchange, node, by_sender, chosen, rates);
    }
    return rates.size() < kFewestExchanges ? kUnknown : MedianOf(rates);
  }

  template <class Chosen>
  void AddRates(const Guess& guess, const PairExchange& exchange, int node, bool by_sender, Chosen chosen,
                std::vector<double>& rates) const {
    double bytes = 0, ns = 0, held = 0;
    const auto for_all = [&](auto visit) {
      for (int other = 0; other < nodes_; ++other) {
        const int from = by_sender ? node : other, to = by_sender ? other : node;
        const PairArrival& pair = At(exchange, from, to);
        if (other != node && pair.bytes > 0) visit(from, to, pair);
      }
    };
    for_all([&](int from, int to, const PairArrival& pair) {
      if (!chosen(from, to)) return;
      if (!guess.IsPort() && pair.held_ns > 0) rates.push_back(1e9 * pair.bytes / pair.ns);
      if (pair.ns > ns) held = pair.held_ns;
      ns = std::max(ns, pair.ns);
    });
    if (!guess.IsPort() || held <= 0) return;
    for_all([&](int, int, const PairArrival& pair) { bytes += pair.bytes * std::min(1.0, ns / pair.ns); });
    rates.push_back(1e9 * bytes / ns);
  }

  const ArrivalPairs& arrivals_;
  const int nodes_;
  const std::vector<PairExchange>& exchanges_;
};

}  // namespace

std::vector<SlowWire> FindSlowWires(const JoinedTraffic& traffic, const RecordedManifest& manifest) {
  if (manifest.carrier == "emulated" || manifest.carrier == "threads") return {};
  const std::vector<int>& nodes = manifest.node_of_rank;
  if (*std::max_element(nodes.begin(), nodes.end()) == 0) return {};
  const ArrivalPairs arrivals(traffic, nodes, manifest.moves_while_computing);
  return arrivals.is_seen() ? Finder(arrivals).Find() : WireFromWaits(traffic, nodes);
}

}  // namespace unipool
