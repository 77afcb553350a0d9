#include "launcher/traffic_report/what_if.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace unipool {
namespace {

constexpr size_t kMostParts = 8'000'000;  // that are replayed

// Start or Wait of an exchange on a rank.
struct Event {
  int64_t begin = 0, end = 0;
  size_t exchange = 0;
  int part = 0;
  bool is_wait = false;
  double gap = 0;        // computing before it
  double level_gap = 0;  // mean of ranks that have the like work before this exchange
};

struct Change {
  double wire = 1;        // factor of moving times
  double inter_wire = 1;  // of those of exchanges with bytes between nodes
  bool level = false;
};

class StepReplay {
 public:
  StepReplay(const JoinedTraffic& traffic, const RecordedManifest& manifest, const WaitEvidence& evidence,
             const JoinedStep& step)
      : traffic_(traffic), manifest_(manifest), evidence_(evidence), step_(step), events_(manifest.world) {
    for (size_t e = 0; e < traffic.exchanges.size(); ++e) {
      if (traffic.exchanges[e].step == step.step) AddEvents(e);
    }
    for (auto& events : events_) {
      // At one moment a start comes first: whoever waits there for it would otherwise wait for ever.
      std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
        return std::tuple(a.begin, a.end, a.is_wait, a.exchange) <
               std::tuple(b.begin, b.end, b.is_wait, b.exchange);
      });
    }
    first_begin_ = *std::min_element(step.begin.begin(), step.begin.end());
    FindGaps();
  }

  double Measured() const {
    return static_cast<double>(*std::max_element(step_.end.begin(), step_.end.end()) - first_begin_);
  }

  // Time from the first begin to the last end.
  double Run(const Change& change) {
    const size_t world = events_.size();
    std::vector<double> now(world);
    std::vector<size_t> next(world, 0);
    std::map<std::pair<size_t, int>, double> started;
    for (size_t r = 0; r < world; ++r) now[r] = static_cast<double>(step_.begin[r] - first_begin_);
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t r = 0; r < world; ++r) {
        for (; next[r] < events_[r].size(); ++next[r]) {
          const Event& event = events_[r][next[r]];
          const double arrived = now[r] + (change.level ? event.level_gap : event.gap);
          if (event.is_wait) {
            double ready = 0;
            if (!Ready(event, started, ready)) break;
            now[r] = std::max(arrived, ready + Moving(event, change));
          } else {
            started[{event.exchange, event.part}] = arrived;
            now[r] = arrived + static_cast<double>(event.end - event.begin);
          }
          moved = true;
        }
      }
    }
    double last = 0;
    for (size_t r = 0; r < world; ++r) {
      if (next[r] < events_[r].size()) return kUnknown;  // records that do not fit together
      last = std::max(last, now[r] + (change.level ? level_tail_ : tails_[r]));
    }
    return last;
  }

 private:
  void AddEvents(size_t e) {
    const JoinedExchange& exchange = traffic_.exchanges[e];
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.start < 0 || part.wait_enter < 0) continue;
      std::vector<Event>& events = events_[traffic_.WorldRank(exchange, static_cast<int>(p))];
      const int index = static_cast<int>(p);
      events.push_back(
          {.begin = part.start, .end = part.start_done, .exchange = e, .part = index, .is_wait = false});
      events.push_back(
          {.begin = part.wait_enter, .end = part.wait_leave, .exchange = e, .part = index, .is_wait = true});
    }
  }

  // Ranks have the like work before an exchange where they are of one stage, and all or none of them work for
  // a layer of their own.
  void FindGaps() {
    using Like = std::tuple<size_t, bool, int, bool>;
    const auto like_of = [&](const Event& event) {
      const ExchangeRecord& record = traffic_.exchanges[event.exchange].parts[event.part].recorded->record;
      return Like(event.exchange, event.is_wait, record.stage, record.layer >= 0);
    };
    std::map<Like, std::pair<double, double>> sums;  // of gaps, and how many
    for (size_t r = 0; r < events_.size(); ++r) {
      int64_t before = step_.begin[r];
      for (Event& event : events_[r]) {
        event.gap = static_cast<double>(std::max<int64_t>(0, event.begin - before));
        before = std::max(before, event.end);
        auto& [sum, count] = sums[like_of(event)];
        sum += event.gap;
        ++count;
      }
      tails_.push_back(static_cast<double>(std::max<int64_t>(0, step_.end[r] - before)));
      level_tail_ += tails_.back() / static_cast<double>(events_.size());
    }
    for (auto& events : events_) {
      for (Event& event : events) {
        const auto& [sum, count] = sums[like_of(event)];
        event.level_gap = sum / count;
      }
    }
  }

  // When the last of the part's peers had started. False: one has not yet.
  bool Ready(const Event& event, const std::map<std::pair<size_t, int>, double>& started,
             double& ready) const {
    const JoinedExchange& exchange = traffic_.exchanges[event.exchange];
    const auto see = [&](int part) {
      const ExchangePart& other = exchange.parts[part];
      if (!other.recorded || other.start < 0 || other.wait_enter < 0) return true;
      const auto found = started.find({event.exchange, part});
      if (found == started.end()) return false;
      ready = std::max(ready, found->second);
      return true;
    };
    if (!see(event.part)) return false;
    for (const PeerBytes& peer : exchange.parts[event.part].recorded->peers) {
      if (!see(peer.peer)) return false;
    }
    return true;
  }

  // From the last start to the end of the wait. Where nobody waited for it, what the wire takes at best.
  double Moving(const Event& event, const Change& change) const {
    const JoinedExchange& exchange = traffic_.exchanges[event.exchange];
    const ExchangePart& part = exchange.parts[event.part];
    int64_t ready = part.start;
    bool is_inter = false;
    const int node = manifest_.node_of_rank[traffic_.WorldRank(exchange, event.part)];
    for (const PeerBytes& peer : part.recorded->peers) {
      ready = std::max(ready, exchange.parts[peer.peer].start);
      is_inter |= manifest_.node_of_rank[traffic_.WorldRank(exchange, peer.peer)] != node;
    }
    double moving = static_cast<double>(std::max<int64_t>(0, part.wait_leave - ready));
    if (part.exposed * 10 < moving) {  // it was over, or nearly, when the wait began
      const int64_t bytes = BytesOnWire(part);
      const double alone = part.recorded->record.wire_ns >= 0
                               ? static_cast<double>(part.recorded->record.wire_ns)
                           : bytes == 0 ? 0
                                        : evidence_.wire.Ns(bytes);
      moving = std::min(moving, std::max(0.0, alone));
    }
    return moving * change.wire * (is_inter ? change.inter_wire : 1);
  }

  const JoinedTraffic& traffic_;
  const RecordedManifest& manifest_;
  const WaitEvidence& evidence_;
  const JoinedStep& step_;
  std::vector<std::vector<Event>> events_;  // by rank
  std::vector<double> tails_;               // computing after the last event, by rank
  double level_tail_ = 0;                   // mean of them
  int64_t first_begin_ = 0;
};

// Time a byte inside nodes / between nodes, of waits that were for the wire. Unknown where one of them is.
double InterFactor(const JoinedTraffic& traffic, const RecordedManifest& manifest) {
  double ns[2] = {0, 0}, bytes[2] = {0, 0};
  for (const JoinedExchange& exchange : traffic.exchanges) {
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.exposed <= 0) continue;
      const int node = manifest.node_of_rank[traffic.WorldRank(exchange, static_cast<int>(p))];
      bool is_inter = false;
      int64_t begin = part.start;
      for (const PeerBytes& peer : part.recorded->peers) {
        is_inter |= manifest.node_of_rank[traffic.WorldRank(exchange, peer.peer)] != node;
        begin = std::max(begin, exchange.parts[peer.peer].start);
      }
      ns[is_inter] += static_cast<double>(std::max<int64_t>(0, part.wait_leave - begin));
      bytes[is_inter] += static_cast<double>(BytesOnWire(part));
    }
  }
  if (bytes[0] == 0 || bytes[1] == 0 || ns[1] == 0) return kUnknown;
  return std::min(1.0, ns[0] / bytes[0] / (ns[1] / bytes[1]));
}

}  // namespace

WhatIf Replay(const JoinedTraffic& traffic, const RecordedManifest& manifest, const WaitEvidence& evidence) {
  size_t parts = 0;
  for (const JoinedExchange& exchange : traffic.exchanges) parts += exchange.parts.size();
  const auto is_known = [](const JoinedStep& step) {
    return std::find(step.begin.begin(), step.begin.end(), -1) == step.begin.end();
  };
  if (traffic.steps.empty() || parts > kMostParts || evidence.causality.Breached() ||
      !std::all_of(traffic.steps.begin(), traffic.steps.end(), is_known)) {
    return {};
  }
  const double inter = InterFactor(traffic, manifest);
  const double share = 1 / static_cast<double>(traffic.steps.size());
  WhatIf sum{.measured = 0, .replayed = 0, .free_wire = 0, .level_ranks = 0, .both = 0};
  sum.inter_as_intra = IsKnown(inter) ? 0 : kUnknown;
  if (HasNoWire(manifest)) sum.free_wire = sum.both = kUnknown;
  for (const JoinedStep& step : traffic.steps) {
    StepReplay replay(traffic, manifest, evidence, step);
    sum.measured += share * replay.Measured();
    sum.replayed += share * replay.Run({});
    sum.free_wire += share * replay.Run({.wire = 0});
    sum.level_ranks += share * replay.Run({.level = true});
    sum.both += share * replay.Run({.wire = 0, .level = true});
    if (IsKnown(inter)) sum.inter_as_intra += share * replay.Run({.inter_wire = inter});
  }
  return sum;
}

}  // namespace unipool
