// The exchanges of a walked step (step_walk.h): rows there and back, their counts, what crosses the
// boundaries between stages, and rows of a spread head. All ranks of a slot start an exchange before the
// first of them waits for it.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "parallel/step_walk.h"
#include "parallel/walk_rows.h"
#include "parallel/walk_wire.h"

namespace unipool {

enum class Way { kToOwners, kToSources };  // dispatch, combine

class WalkExchanges {
 public:
  // All must outlive it. `ranks`: whose time passes.
  WalkExchanges(const StepPlan& plan, const RoutedRows& rows, WalkDetail detail, const WalkedRanks& walked,
                std::span<WalkedRank> ranks);

  // As TokenDispatcher::NumPieces.
  int NumPieces(Lane lane, SlotId slot) const;
  // Rows of a piece of the lane's slot, valid until the lane's next slot; the counts of the forward lane.
  const SlotRows& RowsOf(Lane lane, SlotId slot, const PlannedPiece& piece);
  const SlotRows& CountsOf(SlotId slot) { return Alike(Lane::kForward, slot, {}, true); }
  // By walked rank i.
  void StartCounts(const SlotRows& counts, int i, WalkExchange& exchange);
  void StartRows(const SlotRows& rows, Way way, int i, WalkExchange& exchange);
  void WaitRows(int i, WalkExchange& exchange);

  // OpenBoundary comes before the first rank's StartBoundary. Both do nothing after the last time step.
  void OpenBoundary(Lane lane, int time);
  void StartBoundary(Lane lane, int time, int i);
  void WaitBoundary(Lane lane);  // all ranks
  // Rows of a spread head from the last stage to the others (to its owners), or their gradients back.
  // OpenHead comes before the first rank's StartHead.
  void OpenHead();
  void StartHead(Way way, int i);
  void WaitHead();  // all ranks; nothing where none is under way

  bool boundary_under_way(Lane lane) const { return boundary_under_way_[static_cast<int>(lane)]; }

 private:
  bool alone() const { return plan_.mesh.pool() == 1; }
  bool HasBoundary(Lane lane, int time) const;
  // The same in all slots in which the same stages are busy.
  const SlotRows& Alike(Lane lane, SlotId slot, const PlannedPiece& piece, bool counts);
  void Start(const SlotRows& rows, double bytes, Way way, int i, WalkExchange& exchange);

  const StepPlan& plan_;
  const RoutedRows& rows_;
  const WalkDetail detail_;
  const WalkedRanks& walked_;
  const std::span<WalkedRank> ranks_;
  WalkRows slot_rows_;
  std::vector<int> index_of_;          // of a rank of the job
  std::vector<ExchangePeers> peers_;   // by walked rank: of its pool
  std::vector<SlotRows> own_rows_[2];  // by lane and piece
  struct AlikeKey {
    bool counts = false;
    PlannedPiece piece;
    std::vector<bool> busy;  // stages
    auto operator<=>(const AlikeKey&) const = default;
  };
  AlikeKey key_;  // of the last one looked for
  std::map<AlikeKey, SlotRows> alike_;
  WalkExchange boundary_[2] = {WalkExchange(0), WalkExchange(0)};  // by lane
  bool boundary_under_way_[2] = {false, false};
  WalkExchange head_{0};
  bool head_under_way_ = false;
};

}  // namespace unipool
