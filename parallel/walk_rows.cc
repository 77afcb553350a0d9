#include "parallel/walk_rows.h"

#include <algorithm>
#include <numeric>

#include "parallel/step_walk.h"
#include "runtime/range.h"

namespace unipool {

WalkedRanks RanksToWalk(const MeshShape& mesh, WalkRanks which) {
  WalkedRanks walked;
  walked.stand_for_stages = which == WalkRanks::kOnePerStage;
  const auto add = [&](int rank) {
    const MeshPosition at = PositionOf(mesh, rank);
    walked.ranks.push_back(rank);
    walked.at.push_back(at);
    walked.pool_rank.push_back(rank % mesh.pool());
    const int pool = mesh.span == PoolSpan::kReplica ? at.replica : at.replica * mesh.stages + at.stage;
    walked.pool_group.push_back(pool);
    walked.num_pool_groups = std::max(walked.num_pool_groups, pool + 1);
  };
  const int of_replica = mesh.world() / mesh.replicas;
  const int count = which == WalkRanks::kAll          ? mesh.world()
                    : which == WalkRanks::kOneReplica ? of_replica
                                                      : mesh.stages;
  for (int i = 0; i < count; ++i) add(walked.stand_for_stages ? RankOf(mesh, {.stage = i}) : i);
  return walked;
}

WalkRows::WalkRows(const MeshShape& mesh, const SlotSchedule& schedule, const ClusterDescription& cluster,
                   const WalkedRanks& walked, WalkDetail detail, std::span<const int> experts_of)
    : mesh_(mesh),
      schedule_(schedule),
      cluster_(cluster),
      walked_(walked),
      detail_(detail),
      experts_of_(experts_of),
      owners_(mesh.pool()) {
  for (const MeshPosition& at : walked.at) {
    if (replicas_.empty() || replicas_.back() != at.replica) replicas_.push_back(at.replica);
  }
  node_sums_.resize(cluster.NodeOf(mesh.world() - 1) + 1);
}

int WalkRows::JobRank(int replica, int stage_of_pool, int pool_rank) const {
  if (mesh_.span == PoolSpan::kReplica) return replica * mesh_.pool() + pool_rank;
  return RankOf(mesh_, {.replica = replica, .stage = stage_of_pool, .data = pool_rank});
}

bool WalkRows::IsInPool(const MeshPosition& walked, int replica, int stage) const {
  return walked.replica == replica && (mesh_.span == PoolSpan::kReplica || walked.stage == stage);
}

void WalkRows::Clear(SlotRows& result) const {
  const size_t count = walked_.ranks.size();
  result.received.assign(count, 0);
  result.sent.assign(count, 0);
  if (detail_ == WalkDetail::kTotals) {
    result.totals.assign(count, {});
    return;
  }
  result.matrices.resize(walked_.num_pool_groups);
  for (auto& matrix : result.matrices) matrix.assign(size_t{1} * mesh_.pool() * mesh_.pool(), 0);
}

template <class Add>
void WalkRows::ForWork(Lane lane, SlotId slot, Add add) const {
  for (const int replica : replicas_) {
    for (int stage = 0; stage < mesh_.stages; ++stage) {
      const LaneWork work = schedule_.Work(lane, stage, slot);
      if (!work.idle()) add(replica, stage, work);
    }
  }
}

void WalkRows::AddAlike(std::span<const double> owners, int replica, int stage, SlotRows& result) {
  if (detail_ == WalkDetail::kBlocks) {
    for (int data = 0; data < mesh_.data; ++data) {
      AddOne(owners, {.replica = replica, .stage = stage, .data = data}, result);
    }
    return;
  }
  const double all = std::accumulate(owners.begin(), owners.end(), 0.0);
  const int first_node = cluster_.NodeOf(JobRank(replica, stage, 0));
  const int last_node = cluster_.NodeOf(JobRank(replica, stage, mesh_.pool() - 1));
  std::fill(node_sums_.begin() + first_node, node_sums_.begin() + last_node + 1, 0);
  for (int owner = 0; owner < mesh_.pool(); ++owner) {
    node_sums_[cluster_.NodeOf(JobRank(replica, stage, owner))] += owners[owner];
  }
  const int first_source = RankOf(mesh_, {.replica = replica, .stage = stage, .data = 0});
  const auto sources_before = [&](int rank) { return std::clamp(rank - first_source, 0, mesh_.data); };
  for (size_t i = 0; i < walked_.ranks.size(); ++i) {
    const MeshPosition& at = walked_.at[i];
    if (!IsInPool(at, replica, stage)) continue;
    const int node = cluster_.NodeOf(walked_.ranks[i]);
    const double own = owners[walked_.pool_rank[i]];
    const bool is_source = at.stage == stage;
    const int begin = cluster_.ranks_per_node > 0 ? node * cluster_.ranks_per_node : 0;
    const int end = cluster_.ranks_per_node > 0 ? begin + cluster_.ranks_per_node : mesh_.world();
    const int near = sources_before(end) - sources_before(begin);
    ExchangeBytes& totals = result.totals[i];
    result.received[i] += own * mesh_.data;
    totals.in[kIntraNode] += own * (near - is_source);
    totals.in[kInterNode] += own * (mesh_.data - near);
    if (!is_source) continue;
    result.sent[i] = all;
    totals.out[kIntraNode] += node_sums_[node] - own;
    totals.out[kInterNode] += all - node_sums_[node];
  }
}

// A source by itself: every walked rank of the pool is an owner.
void WalkRows::AddOne(std::span<const double> owners, const MeshPosition& source, SlotRows& result) {
  const int rank = RankOf(mesh_, source);
  const int source_in_pool = mesh_.span == PoolSpan::kReplica ? rank % mesh_.pool() : source.data;
  for (size_t i = 0; i < walked_.ranks.size(); ++i) {
    if (!IsInPool(walked_.at[i], source.replica, source.stage)) continue;
    const double rows = owners[walked_.pool_rank[i]];
    result.received[i] += rows;
    if (walked_.ranks[i] == rank) result.sent[i] = std::accumulate(owners.begin(), owners.end(), 0.0);
    if (detail_ == WalkDetail::kBlocks) {
      auto& matrix = result.matrices[walked_.pool_group[i]];
      matrix[size_t{1} * source_in_pool * mesh_.pool() + walked_.pool_rank[i]] = rows;
      continue;
    }
    const WireKind kind = WireBetween(cluster_, rank, walked_.ranks[i]);
    if (walked_.ranks[i] == rank) {
      for (int owner = 0; owner < mesh_.pool(); ++owner) {
        const int to = JobRank(source.replica, source.stage, owner);
        if (to != rank) result.totals[i].out[WireBetween(cluster_, rank, to)] += owners[owner];
      }
    } else {
      result.totals[i].in[kind] += rows;
    }
  }
}

void WalkRows::FillOwners(const RoutedRows& rows, Lane lane, const PlannedPiece& piece, int replica, int data,
                          int microbatch, int layer) {
  if (piece.count > 1 && rows.FillPiece(lane, piece.index, replica, data, microbatch, layer, owners_)) return;
  rows.Fill(replica, data, microbatch, layer, owners_);
  if (piece.count == 1) return;
  for (int owner = 0; owner < mesh_.pool(); ++owner) {
    const int experts = experts_of_[owner];
    const auto own = static_cast<double>(EvenPartition(experts, piece.count, piece.index).size());
    owners_[owner] *= experts > 0 ? own / experts : 0;
  }
}

void WalkRows::Fill(const RoutedRows& rows, Lane lane, SlotId slot, const PlannedPiece& piece,
                    SlotRows& result) {
  Clear(result);
  ForWork(lane, slot, [&](int replica, int stage, const LaneWork& work) {
    const int layer = schedule_.FirstLayer(stage) + work.layer;
    if (rows.data_ranks_are_alike()) {
      FillOwners(rows, lane, piece, replica, 0, work.microbatch, layer);
      AddAlike(owners_, replica, stage, result);
      return;
    }
    for (int data = 0; data < mesh_.data; ++data) {
      FillOwners(rows, lane, piece, replica, data, work.microbatch, layer);
      AddOne(owners_, {.replica = replica, .stage = stage, .data = data}, result);
    }
  });
}

void WalkRows::FillCounts(SlotId slot, SlotRows& result) {
  Clear(result);
  owners_.assign(experts_of_.begin(), experts_of_.end());
  ForWork(Lane::kForward, slot,
          [&](int replica, int stage, const LaneWork&) { AddAlike(owners_, replica, stage, result); });
}

}  // namespace unipool
