#include "runtime/exchange_timing.h"

#include <algorithm>

namespace unipool {

double AloneSeconds(const ClusterDescription& cluster, const double (&out)[kNumWireKinds],
                    const double (&in)[kNumWireKinds]) {
  double seconds = 0;
  for (const WireKind kind : {kIntraNode, kInterNode}) {
    const double bytes = std::max(out[kind], in[kind]);
    const WireDescription& wire = WireOf(cluster, kind);
    if (bytes > 0) seconds = std::max(seconds, wire.latency_seconds + wire.Seconds(bytes));
  }
  return seconds;
}

SentBlock Send(const ClusterDescription& cluster, RankLinks& links, int from, int to, double bytes, int peers,
               ExchangeStart& start) {
  const WireKind kind = WireBetween(cluster, from, to);
  const WireDescription& wire = WireOf(cluster, kind);
  const double seconds = wire.Seconds(bytes, peers);
  const double begin = links.out[kind].Take(start.started, seconds);
  start.all_left = std::max(start.all_left, begin + seconds);
  return {
      .from = from, .started = start.started, .first_byte = begin + wire.latency_seconds, .seconds = seconds};
}

ExchangeEnd Receive(const ClusterDescription& cluster, RankLinks& links, int rank,
                    std::span<SentBlock> blocks, const ExchangeStart& start, double now) {
  std::sort(blocks.begin(), blocks.end(), [](const SentBlock& a, const SentBlock& b) {
    return a.first_byte != b.first_byte ? a.first_byte < b.first_byte : a.from < b.from;
  });
  ExchangeEnd end{.complete = start.all_left, .last_started = start.started, .last = -1};
  for (const SentBlock& block : blocks) {
    IncomingLink& link = links.in[WireBetween(cluster, rank, block.from)];
    const double arrived = link.Take(block.first_byte, block.seconds) + block.seconds;
    if (arrived < end.complete) continue;
    end = {.complete = arrived, .last_started = block.started, .last = block.from};
  }
  if (cluster.overlap < 1) {
    const double begun = std::max(start.started, end.last_started);
    const double hidden = std::clamp(std::min(now, end.complete) - begun, 0.0, start.wire_seconds);
    end.complete = std::max(end.complete, now) + (1 - cluster.overlap) * hidden;
  }
  return end;
}

}  // namespace unipool
