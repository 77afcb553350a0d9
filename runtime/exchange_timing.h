// When the blocks of exchanges leave and arrive on a described cluster. The emulated world applies these
// rules to exchanges that happen, and the planner (parallel/step_walk.h) to those that would. The method is
// emulated_communicator.h's. All times are seconds.
#pragma once

#include <span>

#include "runtime/cluster_description.h"
#include "runtime/emulated_link.h"

namespace unipool {

enum WireKind : int { kIntraNode, kInterNode, kNumWireKinds };

inline WireKind WireBetween(const ClusterDescription& cluster, int rank, int other) {
  return cluster.NodeOf(rank) == cluster.NodeOf(other) ? kIntraNode : kInterNode;
}
inline const WireDescription& WireOf(const ClusterDescription& cluster, WireKind kind) {
  return kind == kIntraNode ? cluster.intra_node : cluster.inter_node;
}

// A rank's links. All its exchanges share them.
struct RankLinks {
  OutgoingLink out[kNumWireKinds];
  IncomingLink in[kNumWireKinds];
};

// A block that is on its way.
struct SentBlock {
  int from = 0;  // rank of the job
  double started = 0, first_byte = 0, seconds = 0;
};

// A rank's part of an exchange.
struct ExchangeStart {
  double started = 0, all_left = 0;
  double wire_seconds = 0;  // what the exchange takes alone: AloneSeconds
};

// The time of an exchange when no other is under way and all start it at once. Bytes by wire.
double AloneSeconds(const ClusterDescription& cluster, const double (&out)[kNumWireKinds],
                    const double (&in)[kNumWireKinds]);

// A block of `bytes` > 0 from rank `from` to rank `to` leaves over the sender's link. `peers`: other
// ranks of the exchange.
SentBlock Send(const ClusterDescription& cluster, RankLinks& links, int from, int to, double bytes, int peers,
               ExchangeStart& start);

// What a rank that begins to wait at `now` finds.
struct ExchangeEnd {
  double complete = 0;      // when the wait is over, if that is later than `now`
  double last_started = 0;  // when the sender of the block that came last had started
  int last = -1;            // that sender; -1: the rank's own blocks left last, or nothing came
};
// All blocks for `rank` have been sent. They are put in order of arrival, and take the rank's links.
// Where a wire goes on only in part while a rank computes (ClusterDescription::overlap), the wait makes up
// for the rest: (1 - overlap) of the time between start and wait that the exchange alone would have filled.
ExchangeEnd Receive(const ClusterDescription& cluster, RankLinks& links, int rank,
                    std::span<SentBlock> blocks, const ExchangeStart& start, double now);

}  // namespace unipool
