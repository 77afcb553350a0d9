#include "launcher/traffic_report/wire_from_waits.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace unipool {
namespace {

constexpr int kMostNodesForPairs = 16;
constexpr size_t kFewestExchanges = 40, kMostExchanges = 3000;
constexpr size_t kFewestRates = 8;
constexpr double kFollows = 0.3;  // correlation of waits with a wire's bytes, beyond what all wires explain
constexpr double kDoubts = 2;     // standard errors by which it follows them better than any other's
constexpr double kSlower = 0.6;   // of the rate of the others

// What a node waited for in one exchange.
struct NodeWait {
  size_t node = 0;
  double exposed = 0, ns = 0;   // the longest of its ranks: for the wire; since all had started
  std::vector<double> from;     // bytes that came, by node
  const double* in = nullptr;   // bytes that come to each node in this exchange
  const double* out = nullptr;  // and leave it
};

// Bytes that a wait would follow if one wire were slow.
struct Guess {
  int from = -1, to = -1;
  std::function<double(const NodeWait&)> bytes = {};
  double fit = 0;
  // Whether both blame a node that they share.
  bool IsRelatedTo(const Guess& other) const {
    return (from >= 0 && (from == other.from || from == other.to)) ||
           (to >= 0 && (to == other.from || to == other.to));
  }
};

class WireFinder {
 public:
  WireFinder(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank)
      : traffic_(traffic), node_of_rank_(node_of_rank) {
    nodes_ = 1 + *std::max_element(node_of_rank_.begin(), node_of_rank_.end());
    CollectWaits();
  }

  std::vector<SlowWire> Find() {
    if (waits_.size() < kFewestExchanges) return {};
    MakeBasis();
    exposed_ = Rest([](const NodeWait& w) { return w.exposed; });
    MakeGuesses();
    for (Guess& guess : guesses_) guess.fit = Fit(guess.bytes);
    std::stable_sort(guesses_.begin(), guesses_.end(),
                     [](const auto& a, const auto& b) { return a.fit > b.fit; });
    const Guess& best = guesses_.front();
    const double doubt = kDoubts / std::sqrt(static_cast<double>(waits_.size()));
    if (best.fit < kFollows) return {};
    for (const Guess& other : guesses_) {
      if (!IsSame(best, other) && best.fit - other.fit < doubt) return {};
    }
    return Judge(best, doubt);
  }

 private:
  // With two nodes what one sends is what the other gets.
  bool IsSame(const Guess& a, const Guess& b) const {
    if (nodes_ == 2) return SenderOf(a) == SenderOf(b);
    return a.IsRelatedTo(b);
  }
  int SenderOf(const Guess& guess) const { return guess.from >= 0 ? guess.from : 1 - guess.to; }

  void CollectWaits() {
    std::vector<const JoinedExchange*> exchanges;
    std::vector<double> sizes;
    for (const JoinedExchange& exchange : traffic_.exchanges) {
      const double bytes = BytesBetween(exchange);
      if (bytes <= 0) continue;
      exchanges.push_back(&exchange);
      sizes.push_back(bytes);
    }
    if (sizes.empty()) return;
    const double large = 0.25 * Quantile(sizes, 0.9);  // small ones show latency
    size_t count = 0, taken = 0;
    for (const double size : sizes) count += size >= large;
    const size_t stride = 1 + count / kMostExchanges;
    in_out_.reserve(2 * nodes_ * (count / stride + 1));  // waits point into it
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] >= large && taken++ % stride == 0) Add(*exchanges[i]);
    }
  }

  size_t NodeOf(const JoinedExchange& exchange, int part) const {
    return node_of_rank_[traffic_.WorldRank(exchange, part)];
  }

  double BytesBetween(const JoinedExchange& exchange) const {
    double bytes = 0;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.exposed < 0) return 0;
      for (const PeerBytes& peer : part.recorded->peers) {
        if (NodeOf(exchange, peer.peer) != NodeOf(exchange, static_cast<int>(p)))
          bytes += static_cast<double>(peer.bytes_from);
      }
    }
    return bytes;
  }

  void Add(const JoinedExchange& exchange) {
    const size_t at = in_out_.size();
    in_out_.resize(at + 2 * nodes_, 0);
    double *const in = &in_out_[at], *const out = in + nodes_;
    std::vector<NodeWait> waits(nodes_);
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      const size_t own = NodeOf(exchange, static_cast<int>(p));
      NodeWait& wait = waits[own];
      wait.from.resize(nodes_, 0);
      int64_t begin = part.start;
      for (const PeerBytes& peer : part.recorded->peers) {
        begin = std::max(begin, exchange.parts[peer.peer].start);
        const size_t other = NodeOf(exchange, peer.peer);
        if (other == own) continue;
        const auto bytes = static_cast<double>(peer.bytes_from);
        wait.from[other] += bytes;
        in[own] += bytes;
        out[other] += bytes;
      }
      wait.exposed = std::max(wait.exposed, static_cast<double>(part.exposed));
      wait.ns = std::max(wait.ns, static_cast<double>(part.wait_leave - begin));
    }
    for (size_t node = 0; node < nodes_; ++node) {
      NodeWait& wait = waits[node];
      if (wait.from.empty()) continue;
      wait.node = node;
      wait.in = in;
      wait.out = out;
      waits_.push_back(std::move(wait));
    }
  }

  void MakeGuesses() {
    for (size_t node = 0; node < nodes_; ++node) {
      const auto n = static_cast<int>(node);
      guesses_.push_back({n, -1, [=](const NodeWait& w) { return w.from[node]; }});
      guesses_.push_back({n, -1, [=](const NodeWait& w) { return w.out[node]; }});
      guesses_.push_back({-1, n, [=](const NodeWait& w) { return w.node == node ? w.in[node] : 0; }});
      guesses_.push_back({-1, n, [=](const NodeWait& w) { return w.in[node]; }});
    }
    if (nodes_ < 3 || nodes_ > kMostNodesForPairs) return;
    for (size_t from = 0; from < nodes_; ++from) {
      for (size_t to = 0; to < nodes_; ++to) {
        if (from == to) continue;
        const auto f = static_cast<int>(from), t = static_cast<int>(to);
        guesses_.push_back({f, t, [=](const NodeWait& w) { return w.node == to ? w.from[from] : 0; }});
        if (from < to)
          guesses_.push_back({f, t, [=](const NodeWait& w) {
                                return w.node == to ? w.from[from] : w.node == from ? w.from[to] : 0;
                              }});
      }
    }
  }

  using Values = std::vector<double>;  // one for each wait

  static double Product(const Values& x, const Values& y) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
    return sum;
  }

  // What `value` has beyond all wires alike: without its parts along the basis.
  Values Rest(const std::function<double(const NodeWait&)>& value) const {
    Values rest;
    rest.reserve(waits_.size());
    for (const NodeWait& wait : waits_) rest.push_back(value(wait));
    const double whole = Product(rest, rest);
    for (const Values& along : basis_) {
      const double part = Product(rest, along);
      for (size_t i = 0; i < rest.size(); ++i) rest[i] -= part * along[i];
    }
    if (Product(rest, rest) < 1e-9 * whole) rest.assign(rest.size(), 0);
    return rest;
  }

  // Waits where all wires are alike follow these, to unit length and at right angles.
  void MakeBasis() {
    const auto largest = [](const NodeWait& w) { return *std::max_element(w.from.begin(), w.from.end()); };
    const size_t n = nodes_;
    const std::function<double(const NodeWait&)> values[] = {
        [](const NodeWait&) { return 1; }, [](const NodeWait& w) { return w.in[w.node]; },
        [](const NodeWait& w) { return std::max(w.in[w.node], w.out[w.node]); }, largest,
        [n](const NodeWait& w) { return *std::max_element(w.in, w.in + 2 * n); }};  // in and out lie together
    for (const auto& value : values) {
      Values rest = Rest(value);
      const double length = std::sqrt(Product(rest, rest));
      if (length <= 0) continue;
      for (double& x : rest) x /= length;
      basis_.push_back(std::move(rest));
    }
  }

  // Correlation of waits with a wire's bytes beyond that, as Fisher's z, whose standard error is 1 / sqrt(n).
  double Fit(const std::function<double(const NodeWait&)>& bytes) const {
    const Values rest = Rest(bytes);
    const double spread = Product(rest, rest) * Product(exposed_, exposed_);
    return spread <= 0 ? 0
                       : std::atanh(std::clamp(Product(rest, exposed_) / std::sqrt(spread), -0.999, 0.999));
  }

  // The median rate of bytes while a node hardly did anything but wait.
  double RateOf(const std::function<double(const NodeWait&)>& bytes_of) const {
    std::vector<double> rates;
    for (const NodeWait& wait : waits_) {
      const double bytes = bytes_of(wait);
      if (bytes > 0 && wait.ns > 0 && wait.exposed >= 0.5 * wait.ns) rates.push_back(1e9 * bytes / wait.ns);
    }
    return rates.size() < kFewestRates ? kUnknown : Quantile(std::move(rates), 0.5);
  }

  // Whether what the best guess blames is also clearly slower than the rest.
  std::vector<SlowWire> Judge(const Guess& best, double doubt) const {
    SlowWire slow{.from = best.from, .to = best.to};
    if (nodes_ == 2) {
      slow.from = SenderOf(best);
      slow.to = 1 - slow.from;
    }
    const auto is_blamed = [&](const NodeWait& w) {
      const auto node = static_cast<int>(w.node);
      return node != slow.from && (slow.to < 0 || node == slow.to);
    };
    const auto blamed = [&](const NodeWait& w) { return is_blamed(w) ? w.in[w.node] : 0; };
    const auto not_blamed = [&](const NodeWait& w) { return is_blamed(w) ? 0 : w.in[w.node]; };
    slow.next_rate = RateOf(not_blamed);  // who waits for nothing shows no rate: it is quick
    if (IsKnown(slow.next_rate) && !(RateOf(blamed) < kSlower * slow.next_rate)) return {};
    slow.rate = RateOf([&](const NodeWait& w) {
      if (!is_blamed(w)) return 0.0;
      // A port sends to all receivers at once.
      return slow.from < 0 ? w.in[w.node]
             : slow.to < 0 ? w.out[slow.from]
                           : w.from[static_cast<size_t>(slow.from)];
    });
    if (!IsKnown(slow.rate)) return {};
    slow.way = SlowWire::kOneWay;
    for (const Guess& other : guesses_) {
      if (nodes_ > 2 && other.from == best.to && other.to == best.from && best.fit - other.fit < doubt)
        slow.way = SlowWire::kUnknownWay;
    }
    return {slow};
  }

  const JoinedTraffic& traffic_;
  const std::vector<int>& node_of_rank_;
  size_t nodes_ = 0;
  std::vector<double> in_out_;  // [exchange, in and out, node]
  std::vector<NodeWait> waits_;
  std::vector<Values> basis_;
  Values exposed_;  // of waits, beyond the basis
  std::vector<Guess> guesses_;
};

}  // namespace

std::vector<SlowWire> WireFromWaits(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank) {
  return WireFinder(traffic, node_of_rank).Find();
}

}  // namespace unipool
