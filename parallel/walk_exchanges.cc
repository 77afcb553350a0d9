#include "parallel/walk_exchanges.h"

#include <algorithm>
#include <utility>

namespace unipool {
namespace {

constexpr double kCountBytes = 4;

int IndexOf(Lane lane) {
  return static_cast<int>(lane);
}

}  // namespace

WalkExchanges::WalkExchanges(const StepPlan& plan, const RoutedRows& rows, WalkDetail detail,
                             const WalkedRanks& walked, std::span<WalkedRank> ranks)
    : plan_(plan),
      rows_(rows),
      detail_(detail),
      walked_(walked),
      ranks_(ranks),
      slot_rows_(plan.mesh, plan.schedule, plan.cluster, walked, detail, plan.experts_of),
      index_of_(plan.mesh.world(), -1) {
  for (auto& own : own_rows_) own.resize(std::max(1, plan.pieces_alone));
  for (size_t i = 0; i < walked.ranks.size(); ++i) {
    index_of_[walked.ranks[i]] = static_cast<int>(i);
    const int first = walked.ranks[i] - walked.pool_rank[i], pool = plan.mesh.pool();
    peers_.push_back(walked.Stands(PeersOf(plan.cluster, walked.ranks[i], pool,
                                           [&](int rank) { return std::clamp(rank - first, 0, pool); })));
  }
}

int WalkExchanges::NumPieces(Lane lane, SlotId slot) const {
  const Lane other = lane == Lane::kForward ? Lane::kBackward : Lane::kForward;
  if (alone() || plan_.schedule.AnyWork(other, slot)) return 1;
  const int fewest = *std::min_element(plan_.experts_of.begin(), plan_.experts_of.end());
  return std::max(1, std::min(plan_.pieces_alone, fewest));
}

const SlotRows& WalkExchanges::Alike(Lane lane, SlotId slot, const PlannedPiece& piece, bool counts) {
  key_.counts = counts;
  key_.piece = piece;
  key_.busy.clear();
  for (int s = 0; s < plan_.mesh.stages; ++s) key_.busy.push_back(!plan_.schedule.Work(lane, s, slot).idle());
  auto entry = alike_.find(key_);
  if (entry != alike_.end()) return entry->second;
  entry = alike_.try_emplace(key_).first;
  if (counts) {
    slot_rows_.FillCounts(slot, entry->second);
  } else {
    slot_rows_.Fill(rows_, lane, slot, piece, entry->second);
  }
  return entry->second;
}

const SlotRows& WalkExchanges::RowsOf(Lane lane, SlotId slot, const PlannedPiece& piece) {
  if (rows_.all_are_alike()) return Alike(lane, slot, piece, false);
  SlotRows& own = own_rows_[IndexOf(lane)][piece.index];
  slot_rows_.Fill(rows_, lane, slot, piece, own);
  return own;
}

void WalkExchanges::StartCounts(const SlotRows& counts, int i, WalkExchange& exchange) {
  Start(counts, kCountBytes, Way::kToOwners, i, exchange);
}

void WalkExchanges::StartRows(const SlotRows& rows, Way way, int i, WalkExchange& exchange) {
  Start(rows, plan_.row_bytes, way, i, exchange);
}

void WalkExchanges::Start(const SlotRows& rows, double bytes, Way way, int i, WalkExchange& exchange) {
  if (alone()) return;
  const bool to_owners = way == Way::kToOwners;
  WalkedRank& rank = ranks_[i];
  const int pool = plan_.mesh.pool(), own = walked_.pool_rank[i], job_rank = walked_.ranks[i];
  ExchangeBytes all;
  if (detail_ == WalkDetail::kTotals) {
    for (const WireKind kind : {kIntraNode, kInterNode}) {
      const double to = rows.totals[i].out[kind] * bytes, from = rows.totals[i].in[kind] * bytes;
      all.out[kind] = to_owners ? to : from;
      all.in[kind] = to_owners ? from : to;
      rank.bytes[kind] += all.out[kind];
    }
    exchange.StartTotals(plan_.cluster, rank, i, walked_.pool_group[i], peers_[i], all);
    return;
  }
  const std::vector<double>& matrix = rows.matrices[walked_.pool_group[i]];
  const int first = job_rank - own;
  exchange.Begin(rank, i);
  for (int k = 1; k < pool; ++k) {
    const int other = (own + k) % pool;
    const double there = bytes * matrix[size_t{1} * own * pool + other];
    const double back = bytes * matrix[size_t{1} * other * pool + own];
    const double out = to_owners ? there : back;
    const WireKind kind = WireBetween(plan_.cluster, job_rank, first + other);
    all.out[kind] += out;
    all.in[kind] += to_owners ? back : there;
    if (out <= 0) continue;
    rank.bytes[kind] += out;
    exchange.SendBlock(plan_.cluster, rank, i, job_rank, first + other, first + other, out, pool - 1);
  }
  exchange.SetAlone(plan_.cluster, i, all);
}

void WalkExchanges::WaitRows(int i, WalkExchange& exchange) {
  if (alone()) return;
  if (detail_ == WalkDetail::kTotals) {
    exchange.WaitTotals(plan_.cluster, ranks_[i], i, walked_.pool_group[i], peers_[i]);
  } else {
    exchange.Wait(plan_.cluster, ranks_[i], i, walked_.ranks[i]);
  }
}

bool WalkExchanges::HasBoundary(Lane lane, int time) const {
  return plan_.mesh.stages > 1 && time + 1 < plan_.schedule.num_times() &&
         (lane == Lane::kForward || !plan_.schedule.forward_only());
}

void WalkExchanges::OpenBoundary(Lane lane, int time) {
  if (!HasBoundary(lane, time)) return;
  boundary_[IndexOf(lane)] = WalkExchange(static_cast<int>(ranks_.size()));
  boundary_under_way_[IndexOf(lane)] = true;
}

void WalkExchanges::StartBoundary(Lane lane, int time, int i) {
  if (!HasBoundary(lane, time)) return;
  WalkExchange& exchange = boundary_[IndexOf(lane)];
  exchange.Begin(ranks_[i], i);
  const int step = lane == Lane::kForward ? 1 : -1, s = walked_.at[i].stage;
  const auto neighbour = [&](int other) {
    MeshPosition at = walked_.at[i];
    at.stage = other;
    return other >= 0 && other < plan_.mesh.stages ? RankOf(plan_.mesh, at) : -1;
  };
  const int to = neighbour(s + step), from = neighbour(s - step);
  ExchangeBytes all;
  if (from >= 0 && plan_.schedule.Microbatch(lane, s, time + 1) >= 0) {
    all.in[WireBetween(plan_.cluster, walked_.ranks[i], from)] = plan_.hidden_bytes;
  }
  if (to >= 0 && plan_.schedule.Microbatch(lane, s, time) >= 0) {
    const WireKind kind = WireBetween(plan_.cluster, walked_.ranks[i], to);
    all.out[kind] = plan_.hidden_bytes;
    ranks_[i].bytes[kind] += plan_.hidden_bytes;
    exchange.SendBlock(plan_.cluster, ranks_[i], i, walked_.ranks[i], index_of_[to], to, plan_.hidden_bytes,
                       plan_.mesh.stages - 1);
  }
  exchange.SetAlone(plan_.cluster, i, all);
}

void WalkExchanges::OpenHead() {
  head_ = WalkExchange(static_cast<int>(ranks_.size()));
  head_under_way_ = true;
}

void WalkExchanges::StartHead(Way way, int i) {
  head_.Begin(ranks_[i], i);
  const int stages = plan_.mesh.stages, own = walked_.at[i].stage, last = stages - 1;
  ExchangeBytes all;
  // Between the last stage and `other`, of which one is this rank's: the share of that which is not the last.
  const auto add = [&](int other, bool sends) {
    const double bytes = plan_.hidden_bytes / plan_.tokens * plan_.HeadTokens(own == last ? other : own);
    if (bytes <= 0) return;
    MeshPosition at = walked_.at[i];
    at.stage = other;
    const int rank = RankOf(plan_.mesh, at);
    const WireKind kind = WireBetween(plan_.cluster, walked_.ranks[i], rank);
    if (!sends) {
      all.in[kind] += bytes;
      return;
    }
    all.out[kind] += bytes;
    ranks_[i].bytes[kind] += bytes;
    head_.SendBlock(plan_.cluster, ranks_[i], i, walked_.ranks[i], index_of_[rank], rank, bytes, stages - 1);
  };
  for (int k = 1; k < stages; ++k) {
    const int other = (own + k) % stages;
    if (own == last || other == last) add(other, (own == last) == (way == Way::kToOwners));
  }
  head_.SetAlone(plan_.cluster, i, all);
}

void WalkExchanges::WaitHead() {
  if (!head_under_way_) return;
  head_under_way_ = false;
  for (int i = 0; i < static_cast<int>(ranks_.size()); ++i) {
    head_.Wait(plan_.cluster, ranks_[i], i, walked_.ranks[i]);
  }
}

void WalkExchanges::WaitBoundary(Lane lane) {
  const int l = IndexOf(lane);
  if (!boundary_under_way_[l]) return;
  boundary_under_way_[l] = false;
  for (int i = 0; i < static_cast<int>(ranks_.size()); ++i) {
    boundary_[l].Wait(plan_.cluster, ranks_[i], i, walked_.ranks[i]);
  }
}

}  // namespace unipool
