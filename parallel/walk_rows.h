// The rows of one slot and lane as a walk (step_walk.h) sees them: what each walked rank sends to others
// and receives, one by one or as sums.
#pragma once

#include <compare>
#include <span>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "parallel/walk_wire.h"

namespace unipool {

class RoutedRows;
enum class WalkRanks;

// Who is walked.
struct WalkedRanks {
  std::vector<int> ranks;        // of the job
  std::vector<MeshPosition> at;  // by walked rank
  std::vector<int> pool_rank, pool_group;
  int num_pool_groups = 0;
  bool stand_for_stages = false;  // each is as late as the latest of its node
  ExchangePeers Stands(ExchangePeers own) const {
    if (stand_for_stages) own.before = own.near;
    return own;
  }
};

WalkedRanks RanksToWalk(const MeshShape& mesh, WalkRanks which);

// A piece of a lane's rows: those of a part of every owner's experts.
struct PlannedPiece {
  int index = 0, count = 1;
  auto operator<=>(const PlannedPiece&) const = default;
};

struct SlotRows {
  std::vector<double> received;  // by walked rank: rows of its experts
  std::vector<double> sent;      // by walked rank: rows of its microbatch, its own experts' among them
  // kBlocks: [pool group][source * W + owner] rows.
  std::vector<std::vector<double>> matrices;
  // kTotals: by walked rank, rows to and from other ranks on the way to the owners.
  std::vector<ExchangeBytes> totals;
};

class WalkRows {
 public:
  // All must outlive it.
  WalkRows(const MeshShape& mesh, const SlotSchedule& schedule, const ClusterDescription& cluster,
           const WalkedRanks& walked, WalkDetail detail, std::span<const int> experts_of);
  // Rows of the lane's slot.
  void Fill(const RoutedRows& rows, Lane lane, SlotId slot, const PlannedPiece& piece, SlotRows& result);
  // One row to each owner for each of its experts: their counts.
  void FillCounts(SlotId slot, SlotRows& result);

 private:
  // What all data ranks of one stage and replica add where they send alike.
  void AddAlike(std::span<const double> owners, int replica, int stage, SlotRows& result);
  void AddOne(std::span<const double> owners, const MeshPosition& source, SlotRows& result);
  void Clear(SlotRows& result) const;
  // Calls add(replica, stage, work) for each stage of each replica with work in the slot.
  template <class Add>
  void ForWork(Lane lane, SlotId slot, Add add) const;
  // owners_ of one source, or of all of them where they are alike.
  void FillOwners(const RoutedRows& rows, Lane lane, const PlannedPiece& piece, int replica, int data,
                  int microbatch, int layer);
  int JobRank(int replica, int stage_of_pool, int pool_rank) const;
  bool IsInPool(const MeshPosition& walked, int replica, int stage) const;

  const MeshShape mesh_;
  const SlotSchedule& schedule_;
  const ClusterDescription& cluster_;
  const WalkedRanks& walked_;
  const WalkDetail detail_;
  const std::span<const int> experts_of_;
  std::vector<double> owners_, node_sums_;
  std::vector<int> replicas_;  // that are walked
};

}  // namespace unipool
