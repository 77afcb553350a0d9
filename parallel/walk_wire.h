// What an exchange between ranks would cost on a described cluster: exchange_timing.h without the bytes.
// One WalkExchange stands for the exchanges that all groups of one kind (all pools, all pipelines) start
// together.
//
// Blocks are followed one by one (kBlocks), as the emulated world does, or as the sums of each rank
// (kTotals), which costs time in proportion to ranks instead of pairs of ranks. Totals know of a late
// sender only in which node group he is: an exchange is complete on a rank when its own bytes have left,
// and all its incoming bytes have come through its link since the first sender, but not before the last
// sender's mean block could have. Ranks send in the order of ranks, beginning with the next one. So all ranks
// of a node send to the same one at a time, and a rank that is the n-th of its node gets its blocks n blocks
// later than the first.
#pragma once

#include <vector>

#include "runtime/exchange_timing.h"

namespace unipool {

enum class WalkDetail { kBlocks, kTotals };

// What a walked rank did with its time, and what it sent to others.
struct WalkedRank {
  double now = 0, compute = 0, idle = 0, exposed = 0, hidden = 0;
  double bytes[kNumWireKinds] = {};
  RankLinks links;
};

// A rank's bytes of one exchange in totals.
struct ExchangeBytes {
  double out[kNumWireKinds] = {}, in[kNumWireKinds] = {};
};

// The others with whom a rank exchanges, by where they are.
struct ExchangePeers {
  int near = 0, far = 0;  // on its own node, on others
  int before = 0;         // of those on its own node, with lower numbers
  int all() const { return near + far; }
  int of(WireKind kind) const { return kind == kIntraNode ? near : far; }
};

// `rank`'s in a group of `size`. num_below(r): members with numbers below r.
template <class NumBelow>
ExchangePeers PeersOf(const ClusterDescription& cluster, int rank, int size, NumBelow num_below) {
  if (cluster.ranks_per_node <= 0) return {.near = size - 1, .far = 0, .before = num_below(rank)};
  const int first = cluster.NodeOf(rank) * cluster.ranks_per_node, before = num_below(first);
  const int near = num_below(first + cluster.ranks_per_node) - before;
  return {.near = near - 1, .far = size - near, .before = num_below(rank) - before};
}

class WalkExchange {
 public:
  // For so many walked ranks.
  explicit WalkExchange(int num_ranks) : starts_(num_ranks), arriving_(num_ranks), in_(num_ranks) {}
  // For the next exchange, once all have waited for the one before.
  void Reset() { senders_.clear(); }

  // ---- kBlocks. `index`: of the walked rank; `rank`: of the job. Blocks follow in the order of sending.
  void Begin(WalkedRank& walked, int index);
  // `to_index`, `to`: who gets the block. bytes > 0.
  void SendBlock(const ClusterDescription& cluster, WalkedRank& walked, int index, int rank, int to_index,
                 int to, double bytes, int peers);
  void SetAlone(const ClusterDescription& cluster, int index, const ExchangeBytes& bytes);
  void Wait(const ClusterDescription& cluster, WalkedRank& walked, int index, int rank);

  // ---- kTotals. `group`: ranks of one group share a number; `peers`: other ranks of it.
  void StartTotals(const ClusterDescription& cluster, WalkedRank& walked, int index, int group,
                   const ExchangePeers& peers, const ExchangeBytes& bytes);
  void WaitTotals(const ClusterDescription& cluster, WalkedRank& walked, int index, int group,
                  const ExchangePeers& peers);

 private:
  // Of the senders of one group over one wire.
  struct Senders {
    double first = 0, last_started = 0, last_byte = 0;
    bool any = false;
  };
  void Leave(WalkedRank& walked, const ExchangeStart& start, double complete, double last_started);
  std::vector<ExchangeStart> starts_;
  std::vector<std::vector<SentBlock>> arriving_;
  std::vector<ExchangeBytes> in_;
  std::vector<Senders> senders_;  // [groups * kNumWireKinds]
};

}  // namespace unipool
