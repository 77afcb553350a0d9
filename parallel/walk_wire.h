// What an exchange between ranks would cost on a described cluster: exchange_timing.h without the bytes.
// One WalkExchange stands for the exchanges that all groups of one kind (all pools, all pipelines) start
// together.
//
// Blocks are followed one by one (kBlocks), as the emulated world does, or as the sums of each rank
// (kTotals), which costs time in proportion to ranks instead of pairs of ranks. Totals know of a late
// sender only in which node group he is: an exchange is complete on a rank when its own bytes have left,
// and all its incoming bytes have come through its link since the first sender, but not before the last
// sender's mean block could have.
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

class WalkExchange {
 public:
  // For so many walked ranks.
  explicit WalkExchange(int num_ranks) : starts_(num_ranks), arriving_(num_ranks), in_(num_ranks) {}

  // ---- kBlocks. `index`: of the walked rank; `rank`: of the job. Blocks follow in the order of sending.
  void Begin(WalkedRank& walked, int index);
  // `to_index`, `to`: who gets the block. bytes > 0.
  void SendBlock(const ClusterDescription& cluster, WalkedRank& walked, int index, int rank, int to_index,
                 int to, double bytes, int peers);
  void SetAlone(const ClusterDescription& cluster, int index, const ExchangeBytes& bytes);
  void Wait(const ClusterDescription& cluster, WalkedRank& walked, int index, int rank);

  // ---- kTotals. `group`: ranks of one group share a number; `peers`: other ranks of it.
  void StartTotals(const ClusterDescription& cluster, WalkedRank& walked, int index, int group, int peers,
                   const ExchangeBytes& bytes);
  void WaitTotals(const ClusterDescription& cluster, WalkedRank& walked, int index, int group, int peers);

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
