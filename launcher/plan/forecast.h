// What a step of some settings will cost on a described cluster: time with its band, where the time goes,
// what memory and bytes it takes, and what could be changed. All from the one walk of
// parallel/step_walk.h and the memory plan of models/memory_plan.h.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/cluster.h"
#include "launcher/plan/routed_rows.h"
#include "models/memory_plan.h"

namespace unipool {

// Where rows go, as asked for.
struct RowsWanted {
  std::string counts;          // folder of a run; "": none
  std::string name;            // of `counts` in errors: "--counts=runs/book"
  std::vector<double> shares;  // RecordedShares of a run without single steps; empty: none
  Imbalance imbalance = Imbalance::kLevel;
  double used_experts = 0;  // RoutedRows::set_used_experts; 0: not known
};

// The rows of a plan, and what they are from.
struct RowsFound {
  // One entry a draw; one alone where nothing is drawn.
  std::vector<std::unique_ptr<RoutedRows>> draws;
  Tag::Value tag = Tag::ASSUMED;
  std::string source;
  int64_t step = -1;  // that was recorded; -1: not one step
  // [L * M] each layer's shares of the experts, that experts can be placed by; empty: level, or not known.
  std::vector<double> shares;
};
// Throws UserError as routed_rows.h.
RowsFound FindRows(const RowsWanted& wanted, const Config& config, const MeshShape& mesh, double rows);

// Rows of a plan, drawn from shares of the experts where these live as `placement` says; of many ranks fewer
// draws.
std::vector<std::unique_ptr<RoutedRows>> Draw(double rows, const MeshShape& mesh,
                                              const std::vector<double>& shares,
                                              const ExpertPlacement& placement);

// A part of the step that better settings or another machine would not have.
struct Loss {
  std::string name;
  double seconds = 0;
  std::string setting;  // what touches it
};

// Mean seconds of a rank in a step: they add up to the step.
struct Breakdown {
  WorkSeconds work{};     // compute, by kind
  double idle = 0;        // waited for a rank that was late
  double exposed = 0;     // waited for the wire
  double after_last = 0;  // had ended before the last rank
};

// Of the rank of a stage that needs most.
struct StageMemory {
  int stage = 0, layers = 0;
  int64_t level = 0, twice = 0, worst = 0;  // bytes: even rows, twice the rows, all rows here
};

// How ranks share the work.
struct PlannedLayout {
  MeshShape mesh;
  std::vector<int> layers_per_stage;
  bool is_head_spread = false;
  int microbatches = 0;
};

struct Forecast {
  PlannedLayout layout;
  double step = 0, step_low = 0, step_high = 0;  // p50 and the band around it: p5 to p95
  double ideal = 0;  // all compute of level rows, evenly shared, and nobody ever waits
  double tokens_per_second = 0;
  Breakdown breakdown;
  std::vector<Loss> losses;  // largest first
  double bytes[kNumWireKinds] = {};
  std::vector<double> rank_bytes;  // sent by each walked rank
  std::vector<StageMemory> memory;
  int64_t fixed_bytes = 0;         // of each rank beside the plan's
  std::vector<std::string> notes;  // sentences: what the plan leaves out, or takes from elsewhere
  std::string not_planned;         // why no time of it can be believed (shared_cores.h); "": nothing says so
  std::string rows_source;
  Tag::Value rows_tag = Tag::ASSUMED;
  double share_of_ideal() const { return ideal / step; }
};

// `rows`: of FindRows for the same settings. REQUIRES: config is valid for `ranks`, CheckForPlan has
// passed.
Forecast MakeForecast(const Config& config, int ranks, const Cluster& cluster, const RowsFound& rows);

// Device and type of products, "CPU FP32": what rates of work hold for.
std::string ComputesWith(const Config& config);

// Seconds that a step takes less where one rate is a tenth higher. Of hundreds of ranks with level rows.
struct Sensitivity {
  std::string rate;
  double seconds = 0;
};
std::vector<Sensitivity> Sensitivities(const Config& config, int ranks, const Cluster& cluster,
                                       const RowsFound& rows);

}  // namespace unipool
