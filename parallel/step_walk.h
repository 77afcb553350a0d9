// How long a step takes, before it runs: the slot table that the executor walks, walked with costs in
// place of work. Order and exchanges are slot_executor.cc's; when blocks arrive is exchange_timing.h's.
// So on the emulated cluster, whose rules these are, a walk with the rows that were routed gives the
// step's time and bytes. Pure arithmetic: no ranks, no bytes, no clock of this machine. All times are
// seconds.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/slot_executor.h"
#include "parallel/slot_schedule.h"
#include "parallel/walk_wire.h"
#include "parallel/work_times.h"
#include "runtime/sum_rounds.h"

namespace unipool {

// Which owners the rows of a microbatch go to.
class RoutedRows {
 public:
  virtual ~RoutedRows() = default;
  // Rows that data rank `data` of `replica` sends in the model's layer `layer` to each owner of its pool,
  // [W]; its own among them. The sum is at most N.
  virtual void Fill(int replica, int data, int microbatch, int layer, std::span<double> owners) const = 0;
  // Those of one piece of a lane that goes in pieces (token_dispatcher.h). Returns false where rows of pieces
  // are not known: they are then shares of all, by the experts of the piece.
  virtual bool FillPiece(Lane /*lane*/, int /*piece*/, int /*replica*/, int /*data*/, int /*microbatch*/,
                         int /*layer*/, std::span<double> /*owners*/) const {
    return false;
  }
  // The share of an owner's experts that get rows, where `mean` rows come to one of its experts in the mean:
  // as many as would by chance, unless it is known.
  double UsedExperts(double mean) const { return used_ > 0 ? used_ : UsedByChance(mean); }
  void set_used_experts(double share) { used_ = share; }
  // All data ranks of a replica send alike: one is asked for all.
  virtual bool data_ranks_are_alike() const { return false; }
  // Every microbatch of every layer is alike too: one is asked for all.
  virtual bool all_are_alike() const { return false; }

 protected:
  // Of rows that choose among the owner's experts evenly.
  virtual double UsedByChance(double mean) const;

 private:
  double used_ = 0;  // 0: not known
};

// Each owner gets an even share, by the experts that it owns.
class LevelRows : public RoutedRows {
 public:
  // experts_of: by pool rank.
  LevelRows(double rows, std::vector<int> experts_of);
  void Fill(int replica, int data, int microbatch, int layer, std::span<double> owners) const override;
  bool data_ranks_are_alike() const override { return true; }
  bool all_are_alike() const override { return true; }

 private:
  std::vector<double> shares_;
};

// What follows the slots. Elements are those of the arrays that are summed.
struct StepEnd {
  std::vector<int64_t> dense_elements;                   // by stage
  std::vector<int64_t> gate_up_elements, down_elements;  // by pool rank
  int64_t head_elements = 0;  // of a spread head, which all ranks sum; 0: the head is the last stage's
  int element_bytes = 4;
  int64_t round_bytes = kHostSumRoundBytes;  // sum_rounds.h
  int64_t step_numbers = 0;                  // F64 numbers that all ranks add up
};

struct StepPlan {
  MeshShape mesh;
  SlotSchedule schedule;
  LaneOrder lanes = LaneOrder::kInterleaved;
  ClusterDescription cluster;
  WorkTimes times;
  double tokens = 0, rows = 0;  // T and N of a microbatch
  double row_bytes = 0;         // of one row on the wire
  double kept_rows = 0;         // what experts keep of a row from forward to backward, in rows
  double hidden_bytes = 0;      // of a microbatch between stages, and of the rows of its spread head
  int64_t head_chunk = 1;       // tokens of a spread head that are worked on at once
  int pieces_alone = 1;         // DispatcherOptions::pieces_alone
  std::vector<int> experts_of;  // experts by pool rank
  StepEnd end;
  // Tokens of a stage's share of a spread head.
  double HeadTokens(int stage) const;
  // Share of a spread head's work that is left when its gradients leave (SpreadHead::HeadRest): the weight's
  // gradient of the last chunk of `own` tokens. Of a forward alone the whole backward.
  double HeadRest(double own) const;
};

enum class WalkRanks {
  kAll,
  // Those of the first replica stand for the others. Right where these are alike, as with level rows, up to
  // the nodes in which they are. What follows the slots goes over replicas, and is walked in totals.
  kOneReplica,
  // One of each stage stands for all its data ranks and all replicas. Right where these are alike, as with
  // level rows, up to the nodes in which they are. Totals only.
  kOnePerStage,
};

struct WalkOptions {
  WalkDetail detail = WalkDetail::kBlocks;
  WalkRanks ranks = WalkRanks::kAll;
  bool has_end = true;  // false: the slots alone
  bool keeps_pieces = false, keeps_times = false;
};

// A piece of a walked rank's work. Between two pieces the rank waits.
struct WalkedPiece {
  int walked = 0;
  WorkKind kind{};
  double begin = 0, seconds = 0;
};

// What one walked rank's work took, by kind.
using WorkSeconds = std::array<double, kNumWorkKinds>;

struct StepTimes {
  double seconds = 0;       // until the last rank has ended
  double slot_seconds = 0;  // until the last rank has ended its slots
  std::vector<int> ranks;   // of the job, that were walked
  std::vector<WalkedRank> walked;
  std::vector<WorkSeconds> work;
  std::vector<WalkedPiece> pieces;  // in the order of each rank; empty unless they are kept
  std::vector<double> ends;         // [time steps, walked ranks] when they had ended; empty unless kept
  // Sent to other ranks by all ranks of the job.
  double bytes[kNumWireKinds] = {};
};

// REQUIRES: detail is kTotals with kOnePerStage.
StepTimes WalkStep(const StepPlan& plan, const RoutedRows& rows, const WalkOptions& options = {});

// The seconds of WalkStep. Of many microbatches few are walked: until every rank has come back to where it
// was among the others, so that further microbatches cost the same. A step that has not done so after 32
// time steps a stage goes on with their mean. REQUIRES: rows.all_are_alike().
double WalkLongStep(const StepPlan& plan, const RoutedRows& rows, WalkOptions options = {});

}  // namespace unipool
