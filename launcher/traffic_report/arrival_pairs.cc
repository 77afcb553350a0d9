#include "launcher/traffic_report/arrival_pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "launcher/traffic_report/port_times.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {
namespace {

constexpr double kLarge = 0.25;            // of the large blocks; small ones show latency
constexpr size_t kMostWork = 200'000'000;  // of exchanges x what one takes
constexpr size_t kMemory = 50;             // what a number that is kept counts, in work
constexpr int64_t kInstant = 20'000;       // ns: what is seen so soon after a wait began was there before
constexpr double kFewOfPair = 0.5;         // of the exchanges of the middle pair: fewer show chance
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

// What the ranks of an exchange saw, by pair of nodes.
struct ArrivalPairs::Times {
  int64_t first_start = INT64_MAX;
  struct Pair {
    double bytes = 0;
    int64_t start = INT64_MIN, arrived = INT64_MIN;  // of the last ranks
    int64_t least_start = INT64_MIN;                 // from which on bytes moved for certain
    // Of the rank that got the last byte: when it began to wait, and when it looked last and saw it not.
    int64_t enter = INT64_MIN, looked = INT64_MIN;
  };
  std::vector<Pair> pairs;
};

ArrivalPairs::ArrivalPairs(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank, bool moves)
    : traffic_(traffic),
      node_of_rank_(node_of_rank),
      nodes_(1 + *std::max_element(node_of_rank.begin(), node_of_rank.end())) {
  FindLooks();
  std::vector<Times> all;
  const size_t num_pairs = static_cast<size_t>(nodes_) * nodes_;
  const size_t work = num_pairs * (nodes_ > kMostNodes ? kMemory : num_pairs * nodes_);
  const size_t stride = 1 + traffic.exchanges.size() * work / kMostWork;
  for (size_t i = 0; i < traffic.exchanges.size(); ++i) {
    Times times;
    if (i / 8 % stride == 0 && Collect(traffic.exchanges[i], moves, times)) all.push_back(std::move(times));
  }
  is_seen_ = !all.empty();
  std::stable_sort(all.begin(), all.end(),
                   [](const Times& a, const Times& b) { return a.first_start < b.first_start; });
  const double speed = BytesPerNs(all);
  std::vector<int64_t> before(num_pairs, INT64_MIN);  // a pair's bytes come in the order in which they went
  for (const Times& times : all) {
    PairExchange exchange{.pairs = std::vector<PairArrival>(num_pairs)};
    std::vector<double> begins(num_pairs, 0);
    for (size_t i = 0; i < num_pairs; ++i) {
      const Times::Pair& pair = times.pairs[i];
      if (pair.bytes <= 0) continue;
      const int64_t begin = std::max(pair.start, before[i]);
      const auto since = [&](int64_t moment) { return static_cast<double>(pair.arrived - moment); };
      before[i] = std::max(before[i], pair.arrived);
      if (pair.arrived <= begin) continue;
      begins[i] = speed * static_cast<double>(begin - times.first_start);
      const bool is_held = pair.arrived - pair.enter > kInstant;
      const int64_t seen_least = is_held ? pair.arrived : pair.looked;
      exchange.pairs[i] = {.bytes = pair.bytes,
                           .ns = since(begin),
                           .least_ns = static_cast<double>(
                               seen_least - std::max(begin, std::min(seen_least, pair.least_start))),
                           .held_ns = is_held ? since(std::max(begin, pair.enter)) : 0};
    }
    AddLoads(exchange, begins);
    exchanges_.push_back(std::move(exchange));
  }
  LeaveOutSmall();
  Compare();
}

// A rank that waits in a communicator sees what comes for all exchanges under way in it.
void ArrivalPairs::FindLooks() {
  for (const JoinedExchange& exchange : traffic_.exchanges) {
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      if (exchange.parts[p].wait_leave < 0) continue;
      const int rank = traffic_.WorldRank(exchange, static_cast<int>(p));
      looks_[{exchange.communicator, rank}].push_back(exchange.parts[p].wait_leave);
    }
  }
  for (auto& [key, looks] : looks_) std::sort(looks.begin(), looks.end());
}

int64_t ArrivalPairs::LastLook(const JoinedExchange& exchange, size_t part, int64_t before) const {
  const auto found =
      looks_.find({exchange.communicator, traffic_.WorldRank(exchange, static_cast<int>(part))});
  int64_t last = exchange.parts[part].start_done;
  if (found == looks_.end()) return last;
  const auto next = std::lower_bound(found->second.begin(), found->second.end(), before);
  return next == found->second.begin() ? last : std::max(last, *std::prev(next));
}

// What the busiest senders get through their ports.
double ArrivalPairs::BytesPerNs(const std::vector<Times>& all) const {
  std::vector<std::pair<double, double>> senders;  // bytes, ns
  std::vector<double> sizes;
  for (const Times& times : all) {
    for (size_t from = 0; from < static_cast<size_t>(nodes_); ++from) {
      double bytes = 0;
      int64_t begin = INT64_MAX, end = INT64_MIN;
      for (size_t to = 0; to < static_cast<size_t>(nodes_); ++to) {
        const Times::Pair& pair = times.pairs[from * nodes_ + to];
        if (pair.bytes <= 0) continue;
        bytes += pair.bytes;
        begin = std::min(begin, pair.start);
        end = std::max(end, pair.arrived);
      }
      if (end <= begin) continue;
      senders.emplace_back(bytes, static_cast<double>(end - begin));
      sizes.push_back(bytes);
    }
  }
  if (sizes.empty()) return 1;
  const double large = kLarge * Quantile(std::move(sizes), 0.9);
  std::vector<double> rates;
  for (const auto& [bytes, ns] : senders) {
    if (bytes >= large) rates.push_back(bytes / ns);
  }
  return Quantile(std::move(rates), 0.75);
}

// begins: [from][to], when each block could go.
void ArrivalPairs::AddLoads(PairExchange& exchange, const std::vector<double>& begins) const {
  const auto nodes = static_cast<size_t>(nodes_);
  std::vector<PortBlock> blocks;
  std::vector<double> out(nodes, 0), in(nodes, 0);
  for (size_t i = 0; i < exchange.pairs.size(); ++i) {
    const double bytes = exchange.pairs[i].bytes;
    if (bytes <= 0) continue;
    blocks.push_back({static_cast<int>(i / nodes), static_cast<int>(i % nodes), bytes, begins[i]});
    out[i / nodes] += bytes;
    in[i % nodes] += bytes;
  }
  const bool is_known = nodes_ <= kMostNodes;
  const std::vector<double> ends = is_known ? PortTimes(blocks, nodes_) : std::vector<double>();
  size_t block = 0;
  for (size_t i = 0; i < exchange.pairs.size(); ++i) {
    PairArrival& pair = exchange.pairs[i];
    if (pair.bytes <= 0) continue;
    pair.load = is_known ? ends[block] - begins[i]
                         : (pair.bytes * (nodes_ - 1) + std::max(out[i / nodes], in[i % nodes])) / 2;
    ++block;
  }
}

// False where a rank's times are not known, or nothing goes between nodes.
bool ArrivalPairs::Collect(const JoinedExchange& exchange, bool moves, Times& times) const {
  times.pairs.resize(static_cast<size_t>(nodes_) * nodes_);
  bool has_any = false;
  for (size_t p = 0; p < exchange.parts.size(); ++p) {
    const ExchangePart& part = exchange.parts[p];
    if (!part.recorded || part.exposed < 0) return false;
    times.first_start = std::min(times.first_start, part.start);
    const int to = node_of_rank_[traffic_.WorldRank(exchange, static_cast<int>(p))];
    for (const PeerBytes& peer : part.recorded->peers) {
      const int from = node_of_rank_[traffic_.WorldRank(exchange, peer.peer)];
      if (from == to || peer.bytes_from <= 0) continue;
      if (peer.arrived_us < 0) return false;
      const ExchangePart& sender = exchange.parts[peer.peer];
      Times::Pair& pair = times.pairs[static_cast<size_t>(from) * nodes_ + to];
      const int64_t arrived = part.start + int64_t{1000} * peer.arrived_us;
      pair.bytes += static_cast<double>(peer.bytes_from);
      pair.start = std::max({pair.start, part.start, sender.start});
      pair.least_start =
          moves ? pair.start : std::max({pair.least_start, part.wait_enter, sender.wait_enter});
      if (arrived > pair.arrived) {
        pair.arrived = arrived;
        pair.enter = part.wait_enter;
        pair.looked = std::max(part.start, LastLook(exchange, p, std::min(arrived, part.wait_enter)));
      }
      has_any = true;
    }
  }
  return has_any;
}

void ArrivalPairs::LeaveOutSmall() {
  std::vector<double> sizes;
  for (const PairExchange& exchange : exchanges_) {
    double largest = 0;
    for (const PairArrival& pair : exchange.pairs) largest = std::max(largest, pair.bytes);
    sizes.push_back(largest);
  }
  if (sizes.empty()) return;
  const double large = kLarge * Quantile(std::move(sizes), 0.9);
  std::erase_if(exchanges_, [&](PairExchange& exchange) {
    int count = 0;
    bool is_waited_for = false;
    for (PairArrival& pair : exchange.pairs) {
      if (pair.bytes < large) pair = {};
      count += pair.bytes > 0;
      is_waited_for = is_waited_for || pair.held_ns > 0;
    }
    return count < 2 || !is_waited_for;
  });
}

// Logarithms of times, without what the exchange and the bytes on the way explain. The latter is a power of
// the load: 1 where only bytes count, 0 where only latency does.
void ArrivalPairs::Compare() {
  double xy = 0, xx = 0;
  for (const PairExchange& exchange : exchanges_) {
    double bytes = 0, ns = 0, count = 0;
    for (const PairArrival& pair : exchange.pairs) {
      if (pair.bytes <= 0) continue;
      bytes += std::log(pair.load);
      ns += std::log(pair.ns);
      ++count;
    }
    for (const PairArrival& pair : exchange.pairs) {
      if (pair.bytes <= 0) continue;
      const double x = std::log(pair.load) - bytes / count;
      xx += x * x;
      xy += x * (std::log(pair.ns) - ns / count);
    }
  }
  counts_.assign(static_cast<size_t>(nodes_) * nodes_, 0);
  const double power = xx > 0 ? std::clamp(xy / xx, 0.0, 1.0) : 1;
  for (const PairExchange& exchange : exchanges_) {
    std::vector<double> highs;
    const size_t begin = high_.size();
    for (const PairArrival& pair : exchange.pairs) {
      const double size = power * std::log(std::max(1.0, pair.load));
      high_.push_back(pair.bytes > 0 ? std::log(pair.ns) - size : kUnknown);
      low_.push_back(pair.bytes <= 0     ? kUnknown
                     : pair.least_ns > 0 ? std::log(pair.least_ns) - size
                                         : -kInfinity);
      if (pair.bytes > 0) highs.push_back(high_.back());
    }
    const double middle = Quantile(std::move(highs), 0.5);
    for (size_t i = begin; i < high_.size(); ++i) {
      counts_[i - begin] += exchange.pairs[i - begin].bytes > 0;
      high_[i] -= middle;
      low_[i] -= middle;
    }
  }
}

PairSlowness ArrivalPairs::Slowness(size_t leave_begin, size_t leave_end) const {
  const size_t num_pairs = static_cast<size_t>(nodes_) * nodes_;
  std::vector<double> counts;  // of the pairs that there are
  for (const double count : counts_) {
    if (count > 0) counts.push_back(count);
  }
  const double fewest = kFewOfPair * Quantile(std::move(counts), 0.5);
  const auto medians = [&](const std::vector<double>& values) {
    std::vector<double> result(num_pairs, kUnknown), of_pair;
    for (size_t pair = 0; pair < num_pairs; ++pair) {
      if (counts_[pair] < fewest) continue;
      of_pair.clear();
      for (size_t e = 0; e < exchanges_.size(); ++e) {
        const double value = values[e * num_pairs + pair];
        if ((e < leave_begin || e >= leave_end) && !std::isnan(value)) of_pair.push_back(value);
      }
      if (of_pair.empty()) continue;
      const auto middle = of_pair.begin() + static_cast<int64_t>(of_pair.size() / 2);
      std::nth_element(of_pair.begin(), middle, of_pair.end());
      result[pair] = *middle;
    }
    return result;
  };
  return {.nodes = nodes_, .low = medians(low_), .high = medians(high_)};
}

}  // namespace unipool
