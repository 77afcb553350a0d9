// Where rows go in a plan (parallel/step_walk.h): as a run recorded them, or drawn from what its layers
// chose.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "configs/config.pb.h"
#include "launcher/traffic_report/recorded_run.h"
#include "parallel/expert_placement.h"
#include "parallel/step_walk.h"

namespace unipool {

// The rows of one recorded step, by rank and slot, as they were sent.
class RecordedRows : public RoutedRows {
 public:
  // `run`: with the exchanges of single steps; `name`: of it in errors. Throws UserError where it has none,
  // or was made with another layout, model or size of microbatches than the settings' (field and what would
  // be right).
  RecordedRows(const RecordedRun& run, const Config& config, const MeshShape& mesh, const std::string& name);
  int64_t step() const { return step_; }
  void Fill(int replica, int data, int microbatch, int layer, std::span<double> owners) const override;
  bool FillPiece(Lane lane, int piece, int replica, int data, int microbatch, int layer,
                 std::span<double> owners) const override;

 private:
  int64_t step_ = -1;
  // By (lane, data rank of the job, microbatch, layer of the model): rows of each piece to each owner.
  std::map<std::tuple<int, int, int, int>, std::vector<std::vector<double>>> rows_;
  MeshShape mesh_;
};

// Rows drawn from each layer's shares of the experts. Each microbatch of a replica draws anew, so that the
// largest load of a rank is that of a sample, which is above the largest mean. The draw of an owner's
// rows is normal with the variance of independent choices; a number follows from the seed, so a repeated
// walk is the same. Where experts have copies, each copy gets its share of the layer's rows.
class DrawnRows : public RoutedRows {
 public:
  // shares: [L * M], each layer's sum 1. rows: N. data: ranks that send together.
  DrawnRows(double rows, int data, std::vector<double> shares, const ExpertPlacement& placement,
            uint64_t seed);
  void Fill(int replica, int data, int microbatch, int layer, std::span<double> owners) const override;
  bool data_ranks_are_alike() const override { return true; }

 protected:
  double UsedByChance(double mean) const override;

 private:
  double rows_, sent_;
  int num_owners_;
  std::vector<double> of_owner_;  // [L * W]
  std::vector<double> used_;      // by the logarithm of the mean expert's rows: mean over layers of the pool
  uint64_t seed_;
};

// How uneven layers use the experts that they see: log-normal shares of this sigma around an even use.
// `early`: as in the first hundred steps; `late`: as behind them. Assumed, not measured.
enum class Imbalance { kLevel, kEarly, kLate };
std::vector<double> AssumedShares(const Config& config, Imbalance imbalance);

// The placement that a run of these settings would have, after its first replacement by such shares where
// parallel.placement says so.
ExpertPlacement PlacementFor(const Config& config, const MeshShape& mesh, const std::vector<double>& shares);

// Choices of each layer, [L * M], that the newest checkpoint of a run counted since experts were placed
// last (or over its steps). Throws UserError, that calls the run `name`: no checkpoint, nothing counted,
// another model.
std::vector<double> CountedShares(const std::string& run_dir, const Config& config, const std::string& name);
// Shares of each layer's experts, [L * M], in all steps that a run recorded. Empty where it did not record
// the rows of each layer and expert of the settings' model.
std::vector<double> RecordedShares(const RecordedRun& run, const Config& config);
// As CountedShares; empty instead of an error.
std::vector<double> SharesIfCounted(const std::string& run_dir, const Config& config);

}  // namespace unipool
