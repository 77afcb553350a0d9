// What placing experts by slots is worth (parallel/SCHEDULE.md, "Placement"), in the emulated world on an
// infinitely fast wire.
//
//   placement_bench [--train=STEPS] [--steps=N] [--shadows=K] [--micro_batch=N] [--weight_grad_slots=N]
//   placement_bench --folder=DIR [--train=STEPS]
//       writes the trained model, sequences that it has not seen, and settings for `unipool train`
//
// Two models of 8 layers and 32 experts, top 1:
//   trained      with the pool loss, until its layers prefer different experts by themselves
//   not trained  with routers that lean towards experts of their own, by a standard deviation of about 1 in
//                the logarithm of an expert's share
//
// In each layout experts are placed by the counts of some steps and measured on the samples of another:
// in consecutive blocks; so that slots are level; and so with K shadows on each rank (parallel/SHADOWS.md),
// or with as many as a rank has experts. All three have room for the shadows. A time is the time of forward
// and backward, without the update.
//
// "level" is the bound of them all: the same layout and as many rows, but every expert gets equally many from
// each rank in each slot. Consecutive blocks are level then, and no expert has copies. Its embedding and
// routers are others, so that the tokens choose so; the shapes of all products but the experts' stay.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "models/stage_layers.h"
#include "parallel/shadow_placement.h"
#include "parallel/slot_placement.h"
#include "tools/bench/pipeline_run.h"
#include "tools/bench/placement_model.h"

namespace unipool {
namespace {

constexpr int kCountedSteps = 4;
constexpr int kRepeats = 5;
// Consecutive blocks; slot aware; with shadows; consecutive blocks with level routing.
enum Variant : int { kContiguous, kAware, kShadows, kLevel, kVariants };

// Standard deviation of the logarithm of an expert's share, mean of the layers; and of all layers together.
struct Skew {
  double layers = 0, pool = 0;
};

double LogDeviation(const std::vector<double>& counts) {
  double sum = 0, squares = 0;
  for (const double count : counts) {
    const double value = std::log(count + 1);
    sum += value;
    squares += value * value;
  }
  const auto n = static_cast<double>(counts.size());
  return std::sqrt(std::max(0.0, squares / n - sum / n * sum / n));
}

Skew SkewOf(const std::vector<double>& counts) {
  Skew skew;
  std::vector<double> pool(kExperts);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto begin = counts.begin() + layer * kExperts;
    skew.layers += LogDeviation({begin, begin + kExperts}) / kLayers;
    for (int i = 0; i < kExperts; ++i) pool[i] += begin[i];
  }
  skew.pool = LogDeviation(pool);
  return skew;
}

struct Row {
  Skew skew;
  int room = 0;                      // shadows that a rank may have
  int shadows = 0;                   // copies that are used, of all ranks
  double predicted[kVariants] = {};  // slot imbalance on the counts that placed the experts
  double measured[kVariants] = {};   // on the samples that are timed
  double least = 0;             // slot imbalance that no placement of whole experts can be below, on them
  double rows[kVariants] = {};  // of a timed step
  BenchResult result[kVariants];
  double gain[kVariants] = {};  // contiguous step / this one, median of the rounds' ratios
};

struct Options {
  int train = 300, steps = 1, micro_batch = 4;
  int shadows = -1;  // room of a rank; -1: as many as it has experts
  int weight_grad_slots = 0;
};

double Gain(const std::vector<BenchResult> (&results)[kVariants], int variant) {
  std::vector<double> gains;
  for (int round = 0; round < kRepeats; ++round)
    gains.push_back(results[kContiguous][round].step / results[variant][round].step);
  std::sort(gains.begin(), gains.end());
  return gains[kRepeats / 2];
}

Row Measure(const Weights& weights, int ranks, int stages, int microbatches, const Options& options) {
  Row row;
  const int shadows = options.shadows >= 0 ? options.shadows : kExperts / ranks;
  const int64_t micro_batch = options.micro_batch;
  Config config = PlacementConfig(ranks, stages, microbatches, options.micro_batch, shadows);
  const Weights level_weights = LevelRouters(weights);
  config.mutable_train()->set_weight_grad_slots(options.weight_grad_slots);
  const auto body = [&](World& world) {
    TrainingEngine engine(config, world);
    CopyIn(weights, engine);
    std::vector<int32_t> tokens;
    std::vector<double> counts(kLayers * kExperts);
    for (int step = 0; step < kCountedSteps; ++step) {
      engine.TrainStep(step, 0, SamplesOf(engine, config, 1'000'000 + step, tokens));
      for (size_t i = 0; i < counts.size(); ++i) counts[i] += engine.parts().use.statistics.step_counts()[i];
    }
    const SlotSchedule schedule = TrainingSchedule(config, engine.parts().mesh.shape());
    const SlotLoads loads = SlotLoadsOf(counts, kExperts, schedule, PoolSpan::kReplica);
    const Tensor samples = SamplesOf(engine, config, 2'000'000, tokens);
    std::vector<int32_t> level_tokens;
    const Tensor level_samples = LevelSamples(engine, config, level_tokens);
    const ExpertPlacement contiguous = engine.parts().placement.WithRoom(0);
    const ExpertPlacement aware = PlaceBySlots(loads, contiguous);
    const ShadowCounts placing{
        .counts = counts,
        .schedule = schedule,
        .copy_share = CopyShare(static_cast<double>(micro_batch) * kSequence * ranks / stages, false)};
    const ExpertPlacement placements[] = {contiguous, aware, PlaceShadows(placing, aware, shadows),
                                          contiguous};
    std::vector<BenchResult> results[kVariants];
    std::vector<double> counts_of[kVariants];
    // In turn, so that what else the machine does meets all alike.
    for (int repeat = 0; repeat < kVariants * kRepeats; ++repeat) {
      const int variant = repeat % kVariants;
      engine.parts().replacer.MoveTo(placements[variant]);
      if (variant == kLevel || variant == kContiguous) {
        CopyIn(variant == kLevel ? level_weights : weights, engine);
        engine.state().WeightsLoaded();
      }
      const Tensor& used = variant == kLevel ? level_samples : samples;
      results[variant].push_back(MeasureSteps(world, engine, used, options.steps));
      counts_of[variant] = engine.parts().use.statistics.step_counts();
    }
    if (world.rank() != 0) return;
    row.skew = SkewOf(counts);
    const std::vector<double>& step_counts = counts_of[kContiguous];
    row.least = LeastSlotImbalance(SlotLoadsOf(step_counts, kExperts, schedule, PoolSpan::kReplica), ranks);
    CHECK_LT(SlotImbalance({.counts = counts_of[kLevel], .schedule = schedule}, contiguous), 1 + 1e-6)
        << "level routing is not level";
    row.room = shadows;
    row.shadows = NumShadows(placements[kShadows]);
    for (int variant = 0; variant < kVariants; ++variant) row.gain[variant] = Gain(results, variant);
    for (int variant = 0; variant < kVariants; ++variant) {
      std::vector<BenchResult>& of_variant = results[variant];
      row.predicted[variant] = SlotImbalance(placing, placements[variant]);
      row.measured[variant] =
          SlotImbalance({.counts = counts_of[variant], .schedule = schedule}, placements[variant]);
      row.rows[variant] = std::accumulate(counts_of[variant].begin(), counts_of[variant].end(), 0.0);
      std::sort(of_variant.begin(), of_variant.end(),
                [](const BenchResult& a, const BenchResult& b) { return a.step < b.step; });
      row.result[variant] = of_variant[kRepeats / 2];
    }
  };
  CHECK_EQ(RunWorld({.num_threads = ranks, .emulate = ClusterDescription{}}, body), 0);
  return row;
}

// What the imbalance lets expect: expert time, level, is the mean of the ranks; the lockstep waits for the
// largest.
double ExpectedStep(const Row& row, int variant, int ranks) {
  const double level = row.result[0].expert / ranks;
  return row.result[0].step - level * (row.measured[0] - row.predicted[variant]);
}

// Where the time of each variant goes, mean over the ranks.
void PrintParts(const Row& r, int ranks) {
  std::printf("%10s | %9s %6s | %7s %5s | %7s %7s %7s %7s %7s %7s %7s\n", "", "imbalance", "rows", "step ms",
              "gain", "experts", "dense", "attent.", "small", "other", "idle", "exposed");
  const char* names[] = {"contiguous", "placed", "shadows", "level"};
  for (int variant = 0; variant < kVariants; ++variant) {
    const BenchResult& result = r.result[variant];
    const auto ms = [&](std::initializer_list<Op> ops) {
      double sum = 0;
      for (const Op op : ops) sum += result.of_op[static_cast<int>(op)];
      return 1e3 * sum / ranks;
    };
    const double experts = ms({Op::kGroupedGemm, Op::kSwiglu}), dense = ms({Op::kGemm}),
                 attention = ms({Op::kAttention, Op::kRope}),
                 small = ms({Op::kRmsNorm, Op::kRouter, Op::kPermute, Op::kEmbedding, Op::kCrossEntropy,
                             Op::kReduce});
    std::printf("%10s | %9.3f %6.0f | %7.1f %4.2fx | %7.1f %7.1f %7.1f %7.1f %7.1f %7.1f %7.1f\n",
                names[variant], r.measured[variant], r.rows[variant], 1e3 * result.step, r.gain[variant],
                experts, dense, attention, small, 1e3 * result.compute - experts - dense - attention - small,
                1e3 * result.cost.idle_seconds, 1e3 * result.cost.exposed_seconds);
  }
  std::fflush(stdout);
}

void PrintTable(const char* title, const Weights& weights, const Options& options) {
  std::printf("\n%s\n", title);
  std::printf("%8s | %-11s | %-46s | %-7s | %-57s | %5s\n", "", "log shares", "slot imbalance", "shadows",
              "virtual ms of a step", "dense");
  std::printf(
      "%2s %2s %2s | %5s %5s | %6s %6s %6s %6s %6s %7s | %3s %3s | %7s %7s %7s %5s %7s %7s %5s | %5s\n", "W",
      "S", "B", "layer", "pool", "cont.", "aware", "found", "shad.", "found", "(least)", "k", "all", "cont.",
      "expect", "aware", "gain", "expect", "shad.", "gain", "share");
  struct Layout {
    int ranks, stages, microbatches;
  };
  for (const Layout& l : {Layout{4, 1, 8}, {4, 2, 8}, {4, 4, 8}, {8, 4, 8}}) {
    const Row r = Measure(weights, l.ranks, l.stages, l.microbatches, options);
    const double before = 1e3 * r.result[0].step, aware = 1e3 * r.result[1].step,
                 shadow = 1e3 * r.result[2].step;
    std::printf("%2d %2d %2d | %5.2f %5.2f | %6.3f %6.3f %6.3f %6.3f %6.3f %7.3f | %3d %3d ", l.ranks,
                l.stages, l.microbatches, r.skew.layers, r.skew.pool, r.measured[0], r.predicted[1],
                r.measured[1], r.predicted[2], r.measured[2], r.least, r.room, r.shadows);
    std::printf("| %7.1f %7.1f %7.1f %4.2fx %7.1f %7.1f %4.2fx | %4.1f%%\n", before,
                1e3 * ExpectedStep(r, 1, l.ranks), aware, r.gain[kAware], 1e3 * ExpectedStep(r, 2, l.ranks),
                shadow, r.gain[kShadows], 100 * r.result[2].dense / (r.result[2].dense + r.result[2].expert));
    PrintParts(r, l.ranks);
  }
}

int Main(int argc, char** argv) {
  Options options;
  const char* folder = nullptr;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--train=", 8) == 0) {
      options.train = std::max(1, std::atoi(argv[i] + 8));
    } else if (std::strncmp(argv[i], "--folder=", 9) == 0) {
      folder = argv[i] + 9;
    } else if (std::strncmp(argv[i], "--steps=", 8) == 0) {
      options.steps = std::max(1, std::atoi(argv[i] + 8));
    } else if (std::strncmp(argv[i], "--shadows=", 10) == 0) {
      options.shadows = std::max(0, std::atoi(argv[i] + 10));
    } else if (std::strncmp(argv[i], "--micro_batch=", 14) == 0) {
      options.micro_batch = std::max(1, std::atoi(argv[i] + 14));
    } else if (std::strncmp(argv[i], "--weight_grad_slots=", 20) == 0) {
      options.weight_grad_slots = std::max(0, std::atoi(argv[i] + 20));
    } else {
      std::fprintf(
          stderr,
          "error: what is \"%s\"? Options are --train=STEPS, --steps=N, --shadows=K, --micro_batch=N, "
          "--weight_grad_slots=N and --folder=DIR\n",
          argv[i]);
      return kUserErrorExitCode;
    }
  }
  if (folder) {
    WriteFolder(folder, Train(options.train));
    return 0;
  }
  std::printf("training %d steps\n", options.train);
  PrintTable("A trained model", Train(options.train), options);
  PrintTable("Not trained: routers that lean towards experts of their own", LeaningRouters(), options);
  std::printf(
      "\nlog shares: standard deviation of the logarithm of the experts' shares, in a layer and in all "
      "layers "
      "together\nslot imbalance: contiguous on the timed samples; slot aware and with shadows as predicted "
      "by the "
      "counts that placed the experts, and found on the timed samples; least of any placement of whole "
      "experts\n"
      "shadows: room on a rank, and those that are used on all ranks\n"
      "expect: contiguous step less the expert time that the prediction saves\n");
  return 0;
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  return unipool::Main(argc, argv);
}
