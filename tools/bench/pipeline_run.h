// Runs training steps of a small model in one layout, and measures where the time of a step goes.
#pragma once

#include <optional>

#include "models/training_engine.h"
#include "runtime/emulated_communicator.h"

namespace unipool {

// Experts take about 3/4 of a layer's time. With top_k == experts every token goes to every expert, so all
// ranks have equal work. With a smaller top_k an untrained router chooses.
struct BenchModel {
  int layers = 8, hidden = 256, seq_length = 128;
  int experts = 8, top_k = 8;
  int vocab = 128;  // small, so that embedding and head weigh nothing
  int width() const { return 8 * hidden / top_k; }
};

struct BenchLayout {
  int ranks = 1, stages = 1, microbatches = 1;  // microbatches of each rank
  ParallelConfig::Experts experts = ParallelConfig::POOL;
  ParallelConfig::Lanes lanes = ParallelConfig::INTERLEAVED;
  std::vector<int> layers_per_stage = {};  // empty: chosen
  ParallelConfig::Head head = ParallelConfig::LAST_STAGE;
  std::optional<ClusterDescription> emulate;
  // Shadows of a rank. Experts and shadows are placed by the rows of a step on other samples. -1: experts
  // stay in consecutive blocks.
  int shadows = -1;
};

// Times of forward and backward of one step, without the update, in seconds. Where a cluster is emulated they
// are virtual times, and processor times elsewhere.
struct BenchResult {
  double step = 0;             // from the begin of the last rank that began to the end of the last that ended
  double wall = 0;             // the same span by the clock on the wall
  double compute = 0;          // of a rank, mean over the ranks
  double max_compute = 0;      // of the busiest rank
  double expert = 0;           // products and activation of experts, sum over the ranks
  double dense = 0;            // all other compute, sum over the ranks
  double of_op[kNumOps] = {};  // of the last measured step, sum over the ranks
  EmulatedCost cost;           // mean over the ranks
  std::vector<EmulationReport> ranks;
};

// How many layers each stage gets, and the predicted share of a step in which a rank works
// (parallel/stage_balance.h).
std::vector<int> BenchLayersPerStage(const BenchModel& model, const BenchLayout& layout);
double PredictedShareOfIdeal(const BenchModel& model, const BenchLayout& layout);

// Which of several measured steps counts. kSmallest is for comparing clocks, because other work on the
// machine can only lengthen a step.
enum class Summary { kMedian, kSmallest };

// Runs one step that is not measured, then `steps` measured ones. Each number of the result is summed up on
// its own; `cost` and `ranks` are of the last step.
BenchResult RunBench(const BenchModel& model, const BenchLayout& layout, int steps,
                     Summary summary = Summary::kMedian);

// As RunBench, for an engine that the caller has, on these samples. Weights stay as they are. Collective;
// every rank gets the result of rank 0.
BenchResult MeasureSteps(World& world, TrainingEngine& engine, const Tensor& samples, int steps,
                         Summary summary = Summary::kMedian);

}  // namespace unipool
