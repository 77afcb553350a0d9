// Runs training steps of a small model in one layout and measures where the time of their slots goes.
#pragma once

#include <optional>

#include "models/training_engine.h"
#include "runtime/emulated_communicator.h"

namespace unipool {

// Experts take about 3/4 of a layer's time. With top_k == experts every token goes to every expert, so that
// ranks are level by construction; with fewer, routing is that of an untrained router.
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
  std::optional<ClusterDescription> emulate;
};

// Forward and backward of one step, without the update. Times in seconds; virtual ones where a cluster is
// emulated, of processor time elsewhere.
struct BenchResult {
  double step = 0;         // from the last rank's begin to the last rank's end
  double wall = 0;         // the same by the clock on the wall
  double compute = 0;      // mean of the ranks
  double max_compute = 0;  // of the busiest rank
  double dense = 0;        // of all ranks together: everything that is not an expert's
  double expert = 0;       // of all ranks together: products and activation of experts
  EmulatedCost cost;       // mean of the ranks
  std::vector<EmulationReport> ranks;
};

// The stages' layers, and the share of the step in which ranks are predicted to work (stage_balance.h).
std::vector<int> BenchLayersPerStage(const BenchModel& model, const BenchLayout& layout);
double PredictedShareOfIdeal(const BenchModel& model, const BenchLayout& layout);

// kSmallest is for comparing clocks: other work on the machine can only lengthen a step.
enum class Summary { kMedian, kSmallest };

// Summary of `steps` measured steps after one that is not, number by number; `cost` and `ranks` are those
// of the last step.
BenchResult RunBench(const BenchModel& model, const BenchLayout& layout, int steps,
                     Summary summary = Summary::kMedian);

// The same of an engine that exists, on these samples. Weights stay as they are. Collective; rank 0's result
// is that of all.
BenchResult MeasureSteps(World& world, TrainingEngine& engine, const Tensor& samples, int steps,
                         Summary summary = Summary::kMedian);

}  // namespace unipool
