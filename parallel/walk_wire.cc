#include "parallel/walk_wire.h"

#include <algorithm>

namespace unipool {

void WalkExchange::Begin(WalkedRank& walked, int index) {
  starts_[index] = {.started = walked.now, .all_left = walked.now, .wire_seconds = 0};
}

void WalkExchange::SendBlock(const ClusterDescription& cluster, WalkedRank& walked, int index, int rank,
                             int to_index, int to, double bytes, int peers) {
  arriving_[to_index].push_back(Send(cluster, walked.links, rank, to, bytes, peers, starts_[index]));
}

void WalkExchange::SetAlone(const ClusterDescription& cluster, int index, const ExchangeBytes& bytes) {
  starts_[index].wire_seconds = AloneSeconds(cluster, bytes.out, bytes.in);
}

void WalkExchange::Leave(WalkedRank& walked, const ExchangeStart& start, double complete,
                         double last_started) {
  const double waited = std::max(0.0, complete - walked.now);
  const double idle = std::clamp(last_started - walked.now, 0.0, waited);
  walked.idle += idle;
  walked.exposed += waited - idle;
  walked.hidden += std::max(0.0, start.wire_seconds - (waited - idle));
  walked.now += waited;
}

void WalkExchange::Wait(const ClusterDescription& cluster, WalkedRank& walked, int index, int rank) {
  std::vector<SentBlock>& blocks = arriving_[index];
  const ExchangeEnd end = Receive(cluster, walked.links, rank, blocks, starts_[index], walked.now);
  Leave(walked, starts_[index], end.complete, end.last_started);
  blocks.clear();
}

void WalkExchange::StartTotals(const ClusterDescription& cluster, WalkedRank& walked, int index, int group,
                               const ExchangePeers& peers, const ExchangeBytes& bytes) {
  const size_t first = static_cast<size_t>(group) * kNumWireKinds;
  if (senders_.size() < first + kNumWireKinds) senders_.resize(first + kNumWireKinds);
  ExchangeStart& start = starts_[index];
  start = {.started = walked.now,
           .all_left = walked.now,
           .wire_seconds = AloneSeconds(cluster, bytes.out, bytes.in)};
  in_[index] = bytes;
  for (const WireKind kind : {kIntraNode, kInterNode}) {
    if (bytes.out[kind] <= 0) continue;
    const WireDescription& wire = WireOf(cluster, kind);
    const double seconds =
        wire.Seconds(bytes.out[kind]) / wire.ShareOf(peers.all(), bytes.out[kind] / peers.of(kind));
    const double begin = walked.links.out[kind].Take(start.started, seconds);
    start.all_left = std::max(start.all_left, begin + seconds);
    Senders& senders = senders_[first + kind];
    const double byte = begin + wire.latency_seconds;
    senders.first = senders.any ? std::min(senders.first, byte) : byte;
    senders.last_byte = senders.any ? std::max(senders.last_byte, byte) : byte;
    senders.last_started = senders.any ? std::max(senders.last_started, start.started) : start.started;
    senders.any = true;
  }
}

void WalkExchange::WaitTotals(const ClusterDescription& cluster, WalkedRank& walked, int index, int group,
                              const ExchangePeers& peers) {
  const ExchangeStart& start = starts_[index];
  double complete = start.all_left, last_started = start.started;
  for (const WireKind kind : {kIntraNode, kInterNode}) {
    const double bytes = in_[index].in[kind];
    const size_t at = static_cast<size_t>(group) * kNumWireKinds + kind;
    if (bytes <= 0 || at >= senders_.size() || !senders_[at].any) continue;
    const Senders& senders = senders_[at];
    const WireDescription& wire = WireOf(cluster, kind);
    const double block = bytes / peers.of(kind), share = wire.ShareOf(peers.all(), block);
    const double seconds = wire.Seconds(bytes) / share, of_block = wire.Seconds(block) / share;
    const double later = kind == kInterNode ? peers.before * of_block : 0;
    const double arrived = std::max(walked.links.in[kind].Take(senders.first, seconds) + seconds + later,
                                    senders.last_byte + of_block);
    if (arrived < complete) continue;
    complete = arrived;
    last_started = senders.last_started;
  }
  if (cluster.overlap < 1) {
    const double begun = std::max(start.started, last_started);
    const double hidden = std::clamp(std::min(walked.now, complete) - begun, 0.0, start.wire_seconds);
    complete = std::max(complete, walked.now) + (1 - cluster.overlap) * hidden;
  }
  Leave(walked, start, complete, last_started);
}

}  // namespace unipool
