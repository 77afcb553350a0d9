#include "launcher/traffic_report/exchange_waits.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/traffic_split.h"

namespace unipool {
namespace {

// Every rank attended to an exchange if together they were elsewhere for a twentieth of it at most.
constexpr int64_t kAttended = 20;
// Ranks started at once if the last one came within this part of the time that bytes moved.
constexpr int64_t kAtOnce = 5;
using Span = std::pair<int64_t, int64_t>;

// Sorted, and without overlap.
std::vector<Span> Merged(std::vector<Span> spans) {
  std::sort(spans.begin(), spans.end());
  std::vector<Span> merged;
  for (const Span& span : spans) {
    if (!merged.empty() && span.first <= merged.back().second) {
      merged.back().second = std::max(merged.back().second, span.second);
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

// When each world rank was inside the transport.
std::vector<std::vector<Span>> SpansInside(const JoinedTraffic& traffic, int world) {
  std::vector<std::vector<Span>> inside(world);
  for (const JoinedExchange& exchange : traffic.exchanges) {
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      std::vector<Span>& spans = inside[traffic.WorldRank(exchange, static_cast<int>(p))];
      if (part.start >= 0 && part.start_done >= part.start) spans.emplace_back(part.start, part.start_done);
      if (part.wait_enter >= 0 && part.wait_leave >= part.wait_enter)
        spans.emplace_back(part.wait_enter, part.wait_leave);
    }
  }
  for (auto& spans : inside) spans = Merged(std::move(spans));
  return inside;
}

// The parts of [begin, end) that no span covers.
void AddGaps(const std::vector<Span>& inside, int64_t begin, int64_t end, std::vector<Span>& gaps) {
  auto span = std::upper_bound(inside.begin(), inside.end(), Span(begin, INT64_MAX));
  if (span != inside.begin()) begin = std::max(begin, std::prev(span)->second);
  for (; begin < end; ++span) {
    const int64_t next = span == inside.end() ? end : std::min(end, span->first);
    if (next > begin) gaps.emplace_back(begin, next);
    if (span == inside.end()) return;
    begin = std::max(begin, span->second);
  }
}

class Splitter {
 public:
  Splitter(JoinedTraffic& traffic, const RecordedManifest& manifest, const ClockMap& clocks)
      : traffic_(traffic),
        manifest_(manifest),
        clocks_(clocks),
        inside_(SpansInside(traffic, manifest.world)) {
    for (const JoinedExchange& exchange : traffic_.exchanges) CheckCausality(exchange);
    for (JoinedExchange& exchange : traffic_.exchanges) {
      for (size_t p = 0; p < exchange.parts.size(); ++p) Split(exchange, p);
    }
    evidence_.wire.Finish();
    if (evidence_.wire.Ns(1) < 0) {  // ranks never started at once
      late_wire_.Finish();
      evidence_.wire = std::move(late_wire_);
    }
    for (JoinedExchange& exchange : traffic_.exchanges) {
      for (size_t p = 0; p < exchange.parts.size(); ++p) SplitExposed(exchange, p);
      CompareWithoutClocks(exchange);
    }
  }
  WaitEvidence& evidence() { return evidence_; }

 private:
  int World(const JoinedExchange& exchange, size_t part) const {
    return traffic_.WorldRank(exchange, static_cast<int>(part));
  }

  void CheckCausality(const JoinedExchange& exchange) {
    Causality& causality = evidence_.causality;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.wait_leave < 0) continue;
      const int rank = World(exchange, p);
      for (const PeerBytes& peer : part.recorded->peers) {
        const ExchangePart& from = exchange.parts[peer.peer];
        const int sender = World(exchange, peer.peer);
        if (peer.bytes_from <= 0 || from.start < 0 || clocks_.Share(rank, sender)) continue;
        const int64_t slack = part.wait_leave - from.start;
        const int64_t beyond = -slack - clocks_.UncertaintyBetween(rank, sender, part.wait_leave) -
                               part.uncertainty - from.uncertainty;
        ++causality.num_checks;
        causality.num_violations += beyond > 0;
        causality.largest_ns = std::max(causality.largest_ns, beyond);
        // An offset that is too large puts the sender's start too late, or the receiver's end.
        if (clocks_.Share(rank, 0)) {
          int64_t& bound = causality.of_clock[clocks_.DomainOf(sender)].above_ns;
          bound = std::min(bound, slack);
        } else if (clocks_.Share(sender, 0)) {
          int64_t& bound = causality.of_clock[clocks_.DomainOf(rank)].below_ns;
          bound = std::min(bound, slack);
        }
      }
    }
  }

  // The starts of a part's peers, on its clock. False where one is not known.
  bool PeerStarts(const JoinedExchange& exchange, size_t p, std::vector<PeerStart>& starts,
                  std::vector<int64_t>& uncertainties) const {
    const ExchangePart& part = exchange.parts[p];
    const int rank = World(exchange, p);
    starts.clear();
    uncertainties.clear();
    for (const PeerBytes& peer : part.recorded->peers) {
      const ExchangePart& other = exchange.parts[peer.peer];
      const int world_rank = World(exchange, peer.peer);
      if (world_rank == rank) continue;
      const bool is_shared = clocks_.Share(rank, world_rank);
      if (other.start < 0 || (!is_shared && evidence_.causality.Breached())) return false;
      starts.push_back({.peer = world_rank, .start_ns = other.start, .sends = peer.bytes_from > 0});
      uncertainties.push_back(part.uncertainty + other.uncertainty +
                              (is_shared ? 0 : clocks_.UncertaintyBetween(rank, world_rank, other.start)));
    }
    return true;
  }

  // Idle times and their cause.
  void Split(JoinedExchange& exchange, size_t p) {
    ExchangePart& part = exchange.parts[p];
    if (!part.recorded || part.wait_enter < 0 || part.wait_leave < part.wait_enter) return;
    const ExchangeRecord& record = part.recorded->record;
    if (record.idle_ns >= 0) {                               // known at once, where the times were taken
      part.idle = std::min(record.idle_ns, part.blocked());  // virtual times are rounded one by one
      part.idle_receiver = std::clamp<int64_t>(record.idle_receiver_ns, 0, part.blocked() - part.idle);
      part.exposed = part.blocked() - part.idle - part.idle_receiver;
      part.cause = record.cause;
      if (PeerStarts(exchange, p, starts_, uncertainties_)) Measure(exchange, p);
      return;
    }
    if (!PeerStarts(exchange, p, starts_, uncertainties_)) return;
    const WaitSplit split = SplitWait(part.wait_enter, part.wait_leave, starts_);
    part.idle = split.idle_ns;
    part.idle_receiver = split.idle_receiver_ns;
    part.exposed = split.exposed_ns;
    part.cause = split.idle_ns >= split.idle_receiver_ns ? split.sender : split.receiver;
    if (part.idle + part.idle_receiver == 0) part.cause = -1;
    const int64_t whole = part.idle + part.idle_receiver;
    for (const int sign : {-1, 1}) {
      std::vector<PeerStart> moved = starts_;
      for (size_t i = 0; i < moved.size(); ++i) moved[i].start_ns += sign * uncertainties_[i];
      const WaitSplit other = SplitWait(part.wait_enter, part.wait_leave, moved);
      part.idle_uncertainty =
          std::max(part.idle_uncertainty, std::abs(other.idle_ns + other.idle_receiver_ns - whole));
    }
    Measure(exchange, p);
  }

  // A wait during which every rank attended to the exchange shows what the wire takes.
  void Measure(const JoinedExchange& exchange, size_t p) {
    const ExchangePart& part = exchange.parts[p];
    int64_t bytes = 0;  // what was sent may lie in buffers at the end of the wait
    for (const PeerBytes& peer : part.recorded->peers) bytes += peer.bytes_from;
    if (bytes == 0 || part.exposed <= 0 || (part.recorded->record.head.flags & ExchangeRecord::kFirstUse))
      return;
    const int64_t begin = MovingFrom(part);
    const int64_t ns = part.wait_leave - begin;
    int64_t first = part.start;
    for (const PeerStart& start : starts_) first = std::min(first, start.start_ns);
    // What the first ones sent may have come before the last one started.
    const bool at_once = (begin - first) * kAtOnce <= ns;
    if (ns <= 0 || OutsideNs(exchange, p, begin) * kAttended > ns) return;
    (at_once ? evidence_.wire : late_wire_).Add(bytes, ns);
  }

  int64_t MovingFrom(const ExchangePart& part) const {
    int64_t begin = part.start;
    for (const PeerStart& start : starts_) begin = std::max(begin, start.start_ns);
    return begin;
  }

  // Time from `begin` to the end of the wait in which a peer whose part was not done was
  // outside the transport.
  int64_t OutsideNs(const JoinedExchange& exchange, size_t p, int64_t begin) const {
    std::vector<Span> gaps;
    const ExchangePart& part = exchange.parts[p];
    for (const PeerBytes& peer : part.recorded->peers) {
      const ExchangePart& other = exchange.parts[peer.peer];
      if (static_cast<size_t>(peer.peer) == p || other.wait_leave < 0) continue;
      AddGaps(inside_[World(exchange, peer.peer)], begin, std::min(part.wait_leave, other.wait_leave), gaps);
    }
    int64_t outside = 0;
    for (const Span& gap : Merged(std::move(gaps))) outside += gap.second - gap.first;
    return outside;
  }

  // What of exposed was no wire, and what of the wire was hidden.
  void SplitExposed(JoinedExchange& exchange, size_t p) {
    ExchangePart& part = exchange.parts[p];
    if (part.exposed < 0) return;
    const int64_t bytes = BytesOnWire(part);
    if (part.recorded->record.wire_ns >= 0) {
      part.hidden = std::max<int64_t>(0, part.recorded->record.wire_ns - part.exposed);
      return;
    }
    const CommunicatorName& name = traffic_.communicators[exchange.communicator];
    const double alone = bytes == 0 ? 0 : evidence_.wire.Ns(bytes);
    if (alone < 0 || name.carrier == "threads") return;  // threads have no wire
    if (name.carrier == "MPI" && !manifest_.moves_while_computing && part.exposed > alone) {
      const int64_t outside = OutsideNs(exchange, p, part.wait_leave - part.exposed);
      part.stalled = std::min<int64_t>(outside, part.exposed - std::llround(alone));
    }
    const auto wire = part.exposed - part.stalled;
    const int64_t before_wait = std::max<int64_t>(0, part.wait_enter - part.start);
    part.hidden = std::clamp<int64_t>(std::llround(alone) - wire, 0, before_wait);
  }

  void CompareWithoutClocks(const JoinedExchange& exchange) {
    int64_t most = 0, sum = 0, last_start = -1;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (part.exposed < 0 || part.stalled > 0) return;
      int64_t received = 0;
      for (const PeerBytes& peer : part.recorded->peers) received += peer.bytes_from;
      most = std::max(most, received);
      sum += received;
      last_start = std::max(last_start, part.start);
    }
    const auto size = static_cast<double>(exchange.parts.size());
    if (sum == 0 || static_cast<double>(most) * size > 1.1 * static_cast<double>(sum)) return;
    std::map<int, int64_t> of_clock;  // shortest time since the last start, by clock
    int64_t shortest = INT64_MAX, uncertainty = 0;
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      const int64_t whole = part.wait_leave - part.start;
      if (part.blocked() * 10 < whole) continue;
      shortest = std::min(shortest, whole);
      int64_t& least = of_clock.try_emplace(clocks_.DomainOf(World(exchange, p)), INT64_MAX).first->second;
      least = std::min(least, part.wait_leave - last_start);
      uncertainty = std::max(uncertainty, clocks_.UncertaintyBetween(World(exchange, p), 0, part.start));
    }
    if (of_clock.empty()) return;
    int64_t largest = 0;
    for (const auto& [clock, least] : of_clock) largest = std::max(largest, least);
    ClockFree& clock_free = evidence_.clock_free;
    ++clock_free.num_exchanges;
    clock_free.by_clocks_ns += static_cast<double>(largest);
    clock_free.without_ns += static_cast<double>(shortest);
    clock_free.uncertainty_ns += static_cast<double>(uncertainty);
  }

  JoinedTraffic& traffic_;
  const RecordedManifest& manifest_;
  const ClockMap& clocks_;
  const std::vector<std::vector<Span>> inside_;
  std::vector<PeerStart> starts_;
  std::vector<int64_t> uncertainties_;
  WaitEvidence evidence_;
  WireTimes late_wire_;  // of exchanges that ranks did not start at once
};

}  // namespace

void WireTimes::Add(int64_t bytes, int64_t ns) {
  bins_[std::bit_width(static_cast<uint64_t>(bytes)) - 1].emplace_back(bytes, ns);
}

void WireTimes::Finish() {
  double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0, smallest = 0, largest = 0;
  for (auto& bin : bins_) {
    if (bin.empty()) continue;
    const auto low = bin.begin() + static_cast<int64_t>(bin.size() / 5);
    std::nth_element(bin.begin(), low, bin.end(),
                     [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto bytes = static_cast<double>(low->first);
    const double ns = std::max(1.0, static_cast<double>(low->second)), weight = 1 / (ns * ns);
    w += weight;
    wx += weight * bytes;
    wy += weight * ns;
    wxx += weight * bytes * bytes;
    wxy += weight * bytes * ns;
    if (smallest == 0) smallest = bytes;
    largest = bytes;
    bin.clear();
  }
  if (largest == 0) return;
  // Sizes that are alike do not tell latency from rate.
  const bool tells = largest >= kSpread * smallest;
  beta_ = tells ? std::max(0.0, (wxy - wx * wy / w) / (wxx - wx * wx / w)) : wy / wx;
  alpha_ = tells ? std::max(0.0, (wy - beta_ * wx) / w) : 0;
}

double WireTimes::Ns(int64_t bytes) const {
  return beta_ < 0 ? -1 : alpha_ + beta_ * static_cast<double>(bytes);
}

int64_t BytesOnWire(const ExchangePart& part) {
  int64_t to = 0, from = 0;
  for (const PeerBytes& peer : part.recorded->peers) {
    to += peer.bytes_to;
    from += peer.bytes_from;
  }
  return std::max(to, from);
}

WaitEvidence SplitExchanges(JoinedTraffic& traffic, const RecordedManifest& manifest,
                            const ClockMap& clocks) {
  return std::move(Splitter(traffic, manifest, clocks).evidence());
}

}  // namespace unipool
