// What the slot schedule is worth (parallel/SCHEDULE.md, "Why bubbles become expert time"), measured in the
// emulated world (runtime/emulated_communicator.h) and on real processors.
//
//   slots_bench [TABLE...] [--steps=N]      all tables unless some are named:
//   validate   two ranks on two processors: virtual against wall-clock time of the same steps
//   bubbles    one pool over all stages against a pool per stage, infinitely fast wire, against the formulas.
//              "of ideal" is mean compute / step. The last two columns compare steps, and these shares: the
//              latter does not change when others' work slows the processor down in one of the two runs.
//   routing    the same at S = 8 with the routing of an untrained top-1 router instead of level ranks
//   overlap    a wire on which communication is 80 % of compute: how much of it two lanes hide
//   head       a head of ten layers' dense work: even layers, the cut that is chosen, and the head spread
//   wall       two real ranks on two real processors: wall clock of both layouts
//
// A time is the time of forward and backward, without the update of the parameters. Embedding and head belong
// to the dense work and are about 1 % of it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tools/bench/pipeline_run.h"

namespace unipool {
namespace {

constexpr ParallelConfig::Experts kPool = ParallelConfig::POOL, kPerStage = ParallelConfig::PER_STAGE;

// parallel/SCHEDULE.md, "Why bubbles become expert time". r.dense is the dense work of all layers and
// microbatches, and r.expert is the work of all experts.
double FormulaSeconds(const BenchLayout& layout, const BenchResult& r) {
  const double s = layout.stages, b = layout.microbatches, times = b + s - 1;
  if (layout.experts == kPool) return times / (b * s) * r.dense + r.expert / s;
  return times / (b * s) * (r.dense + r.expert);
}

void PrintBubbleRow(const BenchModel& model, int stages, int microbatches, int steps, int shadows = -1) {
  BenchLayout layout{.ranks = stages,
                     .stages = stages,
                     .microbatches = microbatches,
                     .emulate = ClusterDescription{},
                     .shadows = shadows};
  double step[2], efficiency[2];
  std::printf("%2d %3d", stages, microbatches);
  for (const auto experts : {kPool, kPerStage}) {
    layout.experts = experts;
    const BenchResult r = RunBench(model, layout, steps);
    const double formula = FormulaSeconds(layout, r);
    step[experts] = r.step;
    efficiency[experts] = r.compute / r.step;
    std::printf(" | %8.1f %8.1f %6.1f%% %6.1f%% %5.1f%% %5.3f", 1e3 * r.step, 1e3 * formula,
                100 * (r.step / formula - 1), 100 * efficiency[experts],
                100 * r.expert / (r.expert + r.dense), r.max_compute / r.compute);
  }
  std::printf(" | %5.2fx %5.2fx\n", step[kPerStage] / step[kPool], efficiency[kPool] / efficiency[kPerStage]);
  std::fflush(stdout);
}

void PrintBubbleHead(const char* title) {
  std::printf("\n%s\n", title);
  std::printf("%2s %3s | %-46s | %-46s | per stage / pool\n", "S", "B",
              "one pool over all stages: virtual ms, formula,", "a pool per stage");
  std::printf("%2s %3s | %8s %8s %7s %7s %6s %5s | %8s %8s %7s %7s %6s %5s |  step  ideal\n", "", "", "step",
              "formula", "off by", "of ideal", "expert", "max/m", "step", "formula", "off by", "of ideal",
              "expert", "max/m");
}

void Bubbles(int steps) {
  PrintBubbleHead(
      "Bubbles: infinitely fast wire, ranks level by construction (every token to all 8 experts)");
  for (int stages : {2, 4, 8}) {
    for (int times : {1, 2, 4}) PrintBubbleRow({}, stages, stages * times, steps);
  }
}

void Routing(int steps) {
  PrintBubbleHead(
      "Bubbles with real routing: untrained top-1 router over 32 experts, 256 tokens a microbatch");
  for (int microbatches : {8, 16}) PrintBubbleRow({.experts = 32, .top_k = 1}, 8, microbatches, steps);
  for (int shadows : {0, 2, 4}) {
    std::printf("experts placed by counts, %d shadows on each rank\n", shadows);
    for (int microbatches : {8, 16})
      PrintBubbleRow({.experts = 32, .top_k = 1}, 8, microbatches, steps, shadows);
  }
}

int num_missed = 0;  // aims of this run
constexpr double kMostClockDifference = 0.1;

void Validate(int steps) {
  std::printf(
      "\nValidation: 2 ranks on 2 processors, the same steps by both clocks (shortest step of each)\n");
  std::printf("%-10s %2s %2s %11s %10s %9s\n", "experts", "S", "B", "virtual ms", "wall ms", "wall/virt");
  for (const auto experts : {kPool, kPerStage}) {
    for (int microbatches : {2, 4}) {
      const BenchResult r = RunBench({},
                                     {.ranks = 2,
                                      .stages = 2,
                                      .microbatches = microbatches,
                                      .experts = experts,
                                      .emulate = ClusterDescription{}},
                                     4 * steps, Summary::kSmallest);
      const bool agrees = std::abs(r.wall / r.step - 1) <= kMostClockDifference;
      num_missed += !agrees;
      std::printf("%-10s %2d %2d %11.1f %10.1f %9.3f%s\n", ParallelConfig::Experts_Name(experts).c_str(), 2,
                  microbatches, 1e3 * r.step, 1e3 * r.wall, r.wall / r.step, agrees ? "" : "  MISSED");
    }
  }
}

// Communication of a rank, alone on its wire, as a share of its compute.
constexpr double kCommunicationShare = 0.8;

// Share of the lanes' work that has no other lane beside it on any stage, while the pipeline fills and
// drains: S (S + 1) of 2 B S. Its wire is covered by weight gradients alone.
double AloneShare(const BenchLayout& layout) {
  return (layout.stages + 1.0) / (2.0 * layout.microbatches);
}

void OverlapRows(const BenchModel& model, BenchLayout layout, int steps, bool show_operations = false) {
  layout.emulate = ClusterDescription{};
  const BenchResult fast = RunBench(model, layout, steps);
  layout.emulate->intra_node = {
      .latency_seconds = 5e-6,
      .bytes_per_second = fast.cost.bytes_sent / (kCommunicationShare * fast.compute)};
  for (const auto order : {ParallelConfig::INTERLEAVED, ParallelConfig::SEQUENTIAL}) {
    layout.lanes = order;
    const BenchResult r = RunBench(model, layout, steps);
    const double wire = r.cost.hidden_seconds + r.cost.exposed_seconds;
    std::printf("%2d %2d %3d %-11s %9.1f %9.1f %9.1f %6.1f%% %9.1f %9.1f %6.1f%% %7.1f%%\n", layout.ranks,
                layout.stages, layout.microbatches,
                order == ParallelConfig::INTERLEAVED ? "interleaved" : "sequential", 1e3 * r.step,
                1e3 * fast.step, 1e3 * r.compute, 100 * wire / r.compute, 1e3 * r.cost.exposed_seconds,
                1e3 * r.cost.idle_seconds, 100 * AloneShare(layout), 100 * r.cost.HiddenShare());
    if (show_operations && order == ParallelConfig::INTERLEAVED)
      std::printf("%s", OperationTable(r.ranks, 1).c_str());
    std::fflush(stdout);
  }
}

void Overlap(int steps) {
  std::printf("\nOverlap: a wire of 5 us latency on which communication is %.0f %% of compute\n",
              100 * kCommunicationShare);
  std::printf("%2s %2s %3s %-11s %9s %9s %9s %7s %9s %9s %7s %8s\n", "W", "S", "B", "lanes", "step ms",
              "fast wire", "compute", "wire/c", "exposed", "idle", "alone", "hidden");
  for (int microbatches : {8, 16, 64}) {
    OverlapRows({.layers = 4}, {.ranks = 4, .stages = 1, .microbatches = microbatches}, steps,
                microbatches == 64);
  }
  OverlapRows({.layers = 4}, {.ranks = 4, .stages = 2, .microbatches = 32}, steps);
  OverlapRows({.layers = 8}, {.ranks = 4, .stages = 4, .microbatches = 32}, steps, true);
}

std::string JoinNumbers(const std::vector<int>& numbers) {
  std::string text;
  for (const int number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

// Processor times of two runs differ by some percent, so they are compared by their shares of the ideal step.
void Head(int steps) {
  std::printf(
      "\nHead: about ten layers' dense work, 12 layers, infinitely fast wire; on the last stage with even\n"
      "layers, with the layers that are chosen for it, and spread over the stages\n");
  std::printf("%-10s %2s %3s", "experts", "S", "B");
  for (const char* name : {"even", "chosen", "spread"})
    std::printf(" | %-10s %8s %7s %7s", name, "ms", "ideal", "predict");
  std::printf(" | chosen/even spread/chosen\n");
  const BenchModel model{.layers = 12, .hidden = 128, .seq_length = 512, .vocab = 9216};
  enum Variant : int { kEven, kChosen, kSpread, kNumVariants };
  for (const auto experts : {kPool, kPerStage}) {
    for (int stages : {2, 4}) {
      BenchLayout layout{.ranks = stages,
                         .stages = stages,
                         .microbatches = 2 * stages,
                         .experts = experts,
                         .emulate = ClusterDescription{}};
      double share[kNumVariants];
      std::printf("%-10s %2d %3d", ParallelConfig::Experts_Name(experts).c_str(), stages, 2 * stages);
      for (int variant = 0; variant < kNumVariants; ++variant) {
        layout.layers_per_stage.clear();
        if (variant == kEven) layout.layers_per_stage.assign(stages, model.layers / stages);
        layout.head = variant == kSpread ? ParallelConfig::SPREAD : ParallelConfig::LAST_STAGE;
        const BenchResult r = RunBench(model, layout, steps);
        share[variant] = r.compute / r.step;
        std::printf(" | %-10s %8.1f %6.1f%% %6.1f%%", JoinNumbers(BenchLayersPerStage(model, layout)).c_str(),
                    1e3 * r.step, 100 * share[variant], 100 * PredictedShareOfIdeal(model, layout));
      }
      std::printf(" | %10.2fx %12.2fx\n", share[kChosen] / share[kEven], share[kSpread] / share[kChosen]);
      std::fflush(stdout);
    }
  }
}

void Wall(int steps) {
  std::printf("\nWall clock: 2 real ranks on 2 real processors (medians)\n");
  std::printf("%2s %2s %9s %12s %10s\n", "S", "B", "pool ms", "per stage ms", "per stage / pool");
  for (int microbatches : {2, 4}) {
    std::vector<double> ms[2], ratios;
    for (int repeat = 0; repeat < 5; ++repeat) {
      double wall[2];
      for (const auto experts : {kPool, kPerStage}) {
        wall[experts] =
            RunBench({}, {.ranks = 2, .stages = 2, .microbatches = microbatches, .experts = experts}, steps)
                .wall;
        ms[experts].push_back(1e3 * wall[experts]);
      }
      ratios.push_back(wall[kPerStage] / wall[kPool]);
    }
    for (auto* list : {&ms[0], &ms[1], &ratios}) std::sort(list->begin(), list->end());
    std::printf("%2d %2d %9.1f %12.1f %9.2fx\n", 2, microbatches, ms[kPool][2], ms[kPerStage][2], ratios[2]);
  }
}

int Main(int argc, char** argv) {
  int steps = 3;
  std::vector<std::string> tables;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--steps=", 0) == 0) {
      steps = std::max(1, std::atoi(argument.c_str() + 8));
    } else {
      tables.push_back(argument);
    }
  }
  struct Table {
    const char* name;
    void (*print)(int steps);
  };
  const Table all[] = {{"validate", Validate}, {"bubbles", Bubbles}, {"routing", Routing},
                       {"overlap", Overlap},   {"head", Head},       {"wall", Wall}};
  for (const std::string& name : tables) {
    if (std::none_of(std::begin(all), std::end(all), [&](const Table& t) { return name == t.name; })) {
      std::fprintf(
          stderr,
          "error: there is no table %s: name some of validate, bubbles, routing, overlap, head, wall\n",
          name.c_str());
      return kUserErrorExitCode;
    }
  }
  for (const Table& table : all) {
    if (tables.empty() || std::find(tables.begin(), tables.end(), table.name) != tables.end())
      table.print(steps);
  }
  if (num_missed > 0) std::printf("\n%d of the clocks' comparisons missed 10 %%\n", num_missed);
  return num_missed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  return unipool::Main(argc, argv);
}
