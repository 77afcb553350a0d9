#include "launcher/traffic_report/slow_wire.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace unipool {
namespace {

constexpr double kAsSlow = 1.3;         // times the slowest: it may be this one as well
constexpr double kClearlySlower = 0.5;  // of the usual rate
constexpr int kFewestEnds = 3, kMostEnds = 64;
constexpr double kFollows = 0.4, kDoubts = 2.5;  // correlation; standard errors
constexpr size_t kFewestExchanges = 40;          // for it
constexpr size_t kFewest = 8;                    // waits, for a rate

// What one exchange took, and what it moved between ends.
struct Moved {
  double ns = 0;              // of the slowest rank
  std::vector<double> bytes;  // by end: the larger of those that leave it and those that come
};

struct Seen {
  double bytes = 0, rate = 0;  // of a block; bytes a second
};

class WireFinder {
 public:
  // end_of_rank: the nodes, or the ranks themselves.
  WireFinder(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank, std::vector<int> end_of_rank)
      : traffic_(traffic), node_of_rank_(node_of_rank), end_of_rank_(std::move(end_of_rank)) {
    ends_ = 1 + *std::max_element(end_of_rank_.begin(), end_of_rank_.end());
    rates_.by_node = ends_ < node_of_rank.size();
    as_sender_.resize(ends_ * ends_);
    as_receiver_.resize(ends_ * ends_);
    for (const JoinedExchange& exchange : traffic.exchanges) Add(exchange);
    FindPairs();
    if (rates_.slow.empty()) FindEnd();
  }
  WireRates& rates() { return rates_; }

 private:
  int End(const JoinedExchange& exchange, int part) const {
    return end_of_rank_[traffic_.WorldRank(exchange, part)];
  }

  void Add(const JoinedExchange& exchange) {
    Moved moved{.bytes = std::vector<double>(ends_, 0)};
    std::vector<double> out(ends_, 0), in(ends_, 0);
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.exposed < 0) return;
      int64_t begin = part.start;
      const int own = End(exchange, static_cast<int>(p));
      for (const PeerBytes& peer : part.recorded->peers) {
        begin = std::max(begin, exchange.parts[peer.peer].start);
        const int other = End(exchange, peer.peer);
        if (other == own) continue;
        out[own] += static_cast<double>(peer.bytes_to);
        in[own] += static_cast<double>(peer.bytes_from);
      }
      const auto ns = static_cast<double>(part.wait_leave - begin);
      if (ns <= 0 || part.exposed == 0) continue;
      moved.ns = std::max(moved.ns, ns);
      if (static_cast<double>(part.exposed) < 0.5 * ns) continue;  // it hardly waited for the wire
      AddRates(exchange, part, own, ns);
    }
    for (size_t end = 0; end < ends_; ++end) moved.bytes[end] = std::max(out[end], in[end]);
    if (moved.ns > 0) moved_.push_back(std::move(moved));
  }

  // By how many bytes went each way while this rank waited.
  void AddRates(const JoinedExchange& exchange, const ExchangePart& part, int own, double ns) {
    for (const PeerBytes& peer : part.recorded->peers) {
      const int other = End(exchange, peer.peer);
      if (other == own) continue;
      const auto to = static_cast<double>(peer.bytes_to), from = static_cast<double>(peer.bytes_from);
      if (to > 0) as_sender_[own * ends_ + other].push_back({to, 1e9 * to / ns});
      if (from > 0) as_receiver_[other * ends_ + own].push_back({from, 1e9 * from / ns});
    }
  }

  // The rates of large blocks: small ones show latency.
  std::vector<double> RatesOf(const std::vector<Seen>& seen) const {
    std::vector<double> rates;
    for (const Seen& one : seen) {
      if (one.bytes >= large_) rates.push_back(one.rate);
    }
    return rates;
  }

  void FindLarge() {
    std::vector<double> sizes;
    for (const std::vector<Seen>& list : as_receiver_) {
      for (const Seen& one : list) sizes.push_back(one.bytes);
    }
    large_ = 0.5 * Quantile(std::move(sizes), 0.9);
  }

  // A wait is as long as its slowest block takes. So a wire is at least as fast as either of its ends saw.
  void FindPairs() {
    FindLarge();
    rates_.bytes_per_second.assign(ends_, std::vector<double>(ends_, kUnknown));
    std::vector<double> known[2];  // within nodes, between them
    for (size_t from = 0; from < ends_; ++from) {
      for (size_t to = 0; to < ends_; ++to) {
        double rate = kUnknown;
        for (const auto* seen : {&as_sender_, &as_receiver_}) {
          const std::vector<double> values = RatesOf((*seen)[from * ends_ + to]);
          if (values.size() < kFewest) continue;
          const double one = Quantile(values, 0.5);
          rate = IsKnown(rate) ? std::max(rate, one) : one;
        }
        rates_.bytes_per_second[from][to] = rate;
        if (IsKnown(rate)) known[IsInter(from, to)].push_back(rate);
      }
    }
    for (const bool inter : {true, false}) FindSlowest(known[inter], inter);
  }

  bool IsInter(size_t from, size_t to) const {
    return rates_.by_node || node_of_rank_[from] != node_of_rank_[to];
  }

  void FindSlowest(const std::vector<double>& known, bool inter) {
    if (known.size() < 4 || !rates_.slow.empty()) return;
    const double usual = Quantile(known, 0.5), slowest = Quantile(known, 0);
    if (slowest > kClearlySlower * usual) return;
    // Blocks both ways share the waits, so both directions look slow. The time of the slow one follows its
    // bytes.
    WireRates::Slow slow{.usual_rate = usual};
    double least = 0;
    for (size_t from = 0; from < ends_; ++from) {
      for (size_t to = 0; to < ends_; ++to) {
        const double rate = rates_.bytes_per_second[from][to];
        if (!IsKnown(rate) || rate > kAsSlow * slowest || IsInter(from, to) != inter) continue;
        const double spread = SpreadOf(from, to);
        if (slow.from >= 0 && spread >= least) continue;
        least = spread;
        slow.from = static_cast<int>(from);
        slow.to = static_cast<int>(to);
        slow.rate = rate;
      }
    }
    slow.is_one_way = least < 0.5 * SpreadOf(slow.to, slow.from);
    rates_.slow.push_back(slow);
  }

  // Of the rates that were seen, to their median.
  double SpreadOf(size_t from, size_t to) const {
    std::vector<double> values = RatesOf(as_sender_[from * ends_ + to]);
    const std::vector<double> received = RatesOf(as_receiver_[from * ends_ + to]);
    values.insert(values.end(), received.begin(), received.end());
    return (Quantile(values, 0.75) - Quantile(values, 0.25)) / Quantile(values, 0.5);
  }

  // Where all waits are alike, one end may hold up all. Then times follow its bytes, clearly better than
  // those of any other end and than those of the busiest.
  void FindEnd() {
    std::vector<double> sizes;
    for (const Moved& moved : moved_) sizes.push_back(Busiest(moved));
    const double large = 0.5 * Quantile(std::move(sizes), 0.9);
    std::erase_if(moved_, [&](const Moved& moved) { return Busiest(moved) < large; });
    if (static_cast<int>(ends_) < kFewestEnds || moved_.size() < kFewestExchanges) return;
    double second = Fit(Busiest), best = -1;
    int slow = -1;
    for (size_t end = 0; end < ends_; ++end) {
      const double fit = Fit([&](const Moved& moved) { return moved.bytes[end]; });
      if (fit > best) {
        second = std::max(second, best);
        best = fit;
        slow = static_cast<int>(end);
      } else {
        second = std::max(second, fit);
      }
    }
    const double doubt = 1 / std::sqrt(static_cast<double>(moved_.size() - 3));
    if (best < std::atanh(kFollows) || best - second < kDoubts * doubt) return;
    double bytes = 0, ns = 0;
    for (const Moved& moved : moved_) {
      bytes += moved.bytes[slow];
      ns += moved.ns;
    }
    rates_.slow.push_back({.from = slow, .to = -1, .rate = 1e9 * bytes / ns, .usual_rate = kUnknown});
  }

  static double Busiest(const Moved& moved) {
    return *std::max_element(moved.bytes.begin(), moved.bytes.end());
  }

  // Correlation of times with x, as Fisher's z, whose standard error is 1 / sqrt(n - 3).
  template <class X>
  double Fit(X x_of) const {
    double n = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    for (const Moved& moved : moved_) {
      const double value = x_of(moved);
      n += 1;
      x += value;
      y += moved.ns;
      xx += value * value;
      xy += value * moved.ns;
      yy += moved.ns * moved.ns;
    }
    const double spread = (xx - x * x / n) * (yy - y * y / n);
    return spread <= 0 ? 0 : std::atanh(std::clamp((xy - x * y / n) / std::sqrt(spread), -0.999, 0.999));
  }

  const JoinedTraffic& traffic_;
  const std::vector<int>& node_of_rank_;
  std::vector<int> end_of_rank_;
  size_t ends_ = 0;
  std::vector<std::vector<Seen>> as_sender_, as_receiver_;  // [from * ends + to]
  double large_ = 0;                                        // bytes of a block that shows a rate
  std::vector<Moved> moved_;
  WireRates rates_;
};

}  // namespace

WireRates FindSlowWires(const JoinedTraffic& traffic, const RecordedManifest& manifest) {
  WireRates rates;
  // Wires of a described cluster are alike, and threads have none.
  if (manifest.carrier == "emulated" || manifest.carrier == "threads") return rates;
  const std::vector<int>& nodes = manifest.node_of_rank;
  if (*std::max_element(nodes.begin(), nodes.end()) + 1 >= kFewestEnds)
    rates = std::move(WireFinder(traffic, nodes, nodes).rates());
  if (!rates.slow.empty() || manifest.world < kFewestEnds || manifest.world > kMostEnds) return rates;
  std::vector<int> ranks(manifest.world);
  std::iota(ranks.begin(), ranks.end(), 0);
  return std::move(WireFinder(traffic, nodes, ranks).rates());
}

}  // namespace unipool
