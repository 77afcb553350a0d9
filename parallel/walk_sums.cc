#include "parallel/walk_sums.h"

#include <algorithm>

#include "runtime/range.h"
#include "runtime/sum_rounds.h"

namespace unipool {
namespace {

double Bytes(int64_t elements, int element_bytes) {
  return static_cast<double>(elements * element_bytes);
}

// Piece `round` of part p.
int64_t PieceSize(int64_t n, int parts, int p, int64_t piece, int64_t round) {
  const int64_t size = EvenPartition(n, parts, p).size();
  return std::clamp<int64_t>(size - round * piece, 0, piece);
}

}  // namespace

WalkSums::Groups WalkSums::MakeGroups(const GroupOf& group_of) const {
  Groups groups;
  for (int rank = 0; rank < mesh_.world(); ++rank) {
    const int group = group_of(PositionOf(mesh_, rank));
    groups.of_rank.push_back(group);
    groups.members[group].push_back(rank);
  }
  return groups;
}

void WalkSums::ReduceScatter(const Groups& groups, const ElementsOf& elements, int element_bytes,
                             int64_t round_bytes) {
  Run({.groups = groups,
       .elements = elements,
       .element_bytes = element_bytes,
       .round_bytes = round_bytes,
       .gathers = false});
}

void WalkSums::AllGather(const Groups& groups, const ElementsOf& elements, int element_bytes,
                         int64_t round_bytes) {
  Run({.groups = groups,
       .elements = elements,
       .element_bytes = element_bytes,
       .round_bytes = round_bytes,
       .gathers = true});
}

int64_t WalkSums::NumRounds(const Round& sum, int walked) const {
  const int size = static_cast<int>(sum.groups.members.at(sum.groups.of_rank[walked_.ranks[walked]]).size());
  const int64_t n = sum.elements(walked);
  if (size == 1 || n == 0) return 0;
  const int64_t piece = SumPieceElements(n, sum.element_bytes, size, sum.round_bytes);
  return (EvenPartition(n, size, 0).size() + piece - 1) / piece;
}

// The next round is on its way while this one is waited for. Groups may take different numbers of rounds.
void WalkSums::Run(const Round& sum) {
  int64_t most = 0;
  for (size_t i = 0; i < ranks_.size(); ++i) most = std::max(most, NumRounds(sum, static_cast<int>(i)));
  WalkExchange exchanges[2] = {WalkExchange(static_cast<int>(ranks_.size())),
                               WalkExchange(static_cast<int>(ranks_.size()))};
  if (most > 0) Start(sum, 0, exchanges[0]);
  for (int64_t round = 0; round < most; ++round) {
    if (round + 1 < most) {
      exchanges[(round + 1) % 2] = WalkExchange(static_cast<int>(ranks_.size()));
      Start(sum, round + 1, exchanges[(round + 1) % 2]);
    }
    Wait(sum, round, exchanges[round % 2]);
  }
}

void WalkSums::Start(const Round& sum, int64_t round, WalkExchange& exchange) {
  for (int i = 0; i < static_cast<int>(ranks_.size()); ++i) {
    if (round >= NumRounds(sum, i)) continue;
    if (detail_ == WalkDetail::kBlocks) {
      StartBlocks(sum, round, i, exchange);
    } else {
      StartTotals(sum, round, i, exchange);
    }
  }
}

void WalkSums::StartBlocks(const Round& sum, int64_t round, int walked, WalkExchange& exchange) {
  const int rank = walked_.ranks[walked];  // its own number: all are walked
  const std::vector<int>& members = sum.groups.members.at(sum.groups.of_rank[rank]);
  const int size = static_cast<int>(members.size());
  const int own = static_cast<int>(std::lower_bound(members.begin(), members.end(), rank) - members.begin());
  const int64_t n = sum.elements(walked);
  const int64_t piece = SumPieceElements(n, sum.element_bytes, size, sum.round_bytes);
  const double own_bytes = Bytes(PieceSize(n, size, own, piece, round), sum.element_bytes);
  exchange.Begin(ranks_[walked], walked);
  ExchangeBytes all;
  for (int k = 1; k < size; ++k) {
    const int p = (own + k) % size;
    const double of_peer = Bytes(PieceSize(n, size, p, piece, round), sum.element_bytes);
    const WireKind kind = WireBetween(cluster_, rank, members[p]);
    const double out = sum.gathers ? own_bytes : of_peer;
    all.out[kind] += out;
    all.in[kind] += sum.gathers ? of_peer : own_bytes;
    ranks_[walked].bytes[kind] += out;
    if (out > 0)
      exchange.SendBlock(cluster_, ranks_[walked], walked, rank, members[p], members[p], out, size - 1);
  }
  exchange.SetAlone(cluster_, walked, all);
}

void WalkSums::StartTotals(const Round& sum, int64_t round, int walked, WalkExchange& exchange) {
  const int rank = walked_.ranks[walked], group = sum.groups.of_rank[rank];
  const std::vector<int>& members = sum.groups.members.at(group);
  const int size = static_cast<int>(members.size());
  const int64_t n = sum.elements(walked);
  const int64_t piece = SumPieceElements(n, sum.element_bytes, size, sum.round_bytes);
  const double bytes =
      std::min(Bytes(piece, sum.element_bytes),
               std::max(0.0, Bytes(n, sum.element_bytes) / size -
                                 static_cast<double>(round) * Bytes(piece, sum.element_bytes)));
  const ExchangePeers peers = PeersIn(members, walked);
  const ExchangeBytes all{.out = {bytes * peers.near, bytes * peers.far},
                          .in = {bytes * peers.near, bytes * peers.far}};
  for (const WireKind kind : {kIntraNode, kInterNode}) ranks_[walked].bytes[kind] += all.out[kind];
  exchange.StartTotals(cluster_, ranks_[walked], walked, group, peers, all);
}

ExchangePeers WalkSums::PeersIn(const std::vector<int>& members, int walked) const {
  const auto num_below = [&](int rank) {
    return static_cast<int>(std::lower_bound(members.begin(), members.end(), rank) - members.begin());
  };
  return walked_.Stands(
      PeersOf(cluster_, walked_.ranks[walked], static_cast<int>(members.size()), num_below));
}

void WalkSums::Wait(const Round& sum, int64_t round, WalkExchange& exchange) {
  for (int i = 0; i < static_cast<int>(ranks_.size()); ++i) {
    if (round >= NumRounds(sum, i)) continue;
    const int rank = walked_.ranks[i], group = sum.groups.of_rank[rank];
    if (detail_ == WalkDetail::kBlocks) {
      exchange.Wait(cluster_, ranks_[i], i, rank);
    } else {
      exchange.WaitTotals(cluster_, ranks_[i], i, group, PeersIn(sum.groups.members.at(group), i));
    }
  }
}

}  // namespace unipool
