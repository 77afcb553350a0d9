// What placing experts by slots is worth (parallel/SCHEDULE.md, "Placement"), in the emulated world on an
// infinitely fast wire.
//
//   placement_bench [--train=STEPS] [--steps=N] [--shadows=K] [--micro_batch=N] [--weight_grad_slots=N]
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
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "models/stage_layers.h"
#include "parallel/shadow_placement.h"
#include "parallel/slot_placement.h"
#include "runtime/random.h"
#include "tools/bench/pipeline_run.h"

namespace unipool {
namespace {

constexpr int kVocab = 256, kLayers = 8, kExperts = 32, kSequence = 128;
constexpr int kCountedSteps = 4;
constexpr int kRepeats = 5;
constexpr int kVariants = 3;  // contiguous, slot aware, with shadows

using Weights = std::map<std::string, std::vector<char>>;

Config ConfigOf(int ranks, int stages, int microbatches, int micro_batch, int shadows = 0) {
  Config config;
  ModelConfig& model = *config.mutable_model();
  model.set_layers(kLayers);
  model.set_hidden(128);
  model.set_heads(4);
  model.set_kv_heads(2);
  model.set_seq_length(kSequence);
  model.set_vocab(kVocab);
  model.set_init_std(0.08);
  config.mutable_moe()->set_experts(kExperts);
  config.mutable_moe()->set_width(512);
  config.mutable_moe()->set_balance_coeff(1e-3);
  config.mutable_train()->set_beta2(0.99);
  config.mutable_train()->set_micro_batch(micro_batch);
  config.mutable_train()->set_global_batch(micro_batch * microbatches * ranks / stages);
  config.mutable_parallel()->set_ranks(ranks);
  config.mutable_parallel()->set_stages(stages);
  config.mutable_parallel()->set_placement(ParallelConfig::CONTIGUOUS);
  config.mutable_parallel()->set_shadow_experts(shadows);
  return config;
}

// Each sequence speaks one of 16 languages: where it goes from a token is a rule of the language, broken by
// one token in eight.
int32_t Token(uint64_t sequence, int64_t position, int32_t before) {
  const uint64_t language = RandomBits(11, sequence) % 16, noise = RandomBits(sequence + 1000, position);
  if (position == 0 || noise % 8 == 0) return static_cast<int32_t>((noise >> 8) % kVocab);
  return static_cast<int32_t>((before * (2 * language + 3) + 37 * language + position % 2) % kVocab);
}

Tensor SamplesOf(const TrainingEngine& engine, const Config& config, int64_t step,
                 std::vector<int32_t>& tokens) {
  const int64_t rounds = engine.microbatches_per_rank(), micro_batch = config.train().micro_batch();
  tokens.clear();
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < micro_batch; ++i) {
      const uint64_t sequence = step * config.train().global_batch() + engine.SequenceIndex(m, i);
      for (int64_t p = 0; p <= kSequence; ++p) {
        tokens.push_back(Token(sequence, p, p > 0 ? tokens.back() : 0));
      }
    }
  }
  return Tensor(tokens.data(), DType::kI32, {rounds, micro_batch, kSequence + 1});
}

void CopyOut(const TrainingEngine& engine, Weights& weights) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  for (const DiskTensor& tensor : engine.state().Weights()) {
    const char* data = static_cast<const char*>(tensor.value.data);
    if (tensor.writes) weights[tensor.name].assign(data, data + tensor.value.bytes());
  }
}

void CopyIn(const Weights& weights, const TrainingEngine& engine) {
  for (const DiskTensor& tensor : engine.state().Weights()) {
    const std::vector<char>& data = weights.at(tensor.name);
    CHECK_EQ(static_cast<int64_t>(data.size()), tensor.value.bytes());
    std::memcpy(tensor.value.data, data.data(), data.size());
  }
}

Weights Train(int steps) {
  Weights weights;
  const Config config = ConfigOf(2, 1, 2, /*micro_batch=*/4);
  CHECK_EQ(RunWorld({.num_threads = 2},
                    [&](World& world) {
                      TrainingEngine engine(config, world);
                      std::vector<int32_t> tokens;
                      for (int64_t step = 0; step < steps; ++step) {
                        const double lr = 3e-3 * std::min(1.0, static_cast<double>(step + 1) / 20);
                        const StepReport report =
                            engine.TrainStep(step, lr, SamplesOf(engine, config, step, tokens));
                        if (world.rank() == 0 && step > 0 && (step == 1 || step + 1 == steps)) {
                          const std::string line =
                              Format("step %d: loss %.3f (%.3f for chance), pool loss %.3f x balance\n",
                                     step + 1, report.loss, std::log(kVocab),
                                     report.load.pool_loss / report.load.pool_loss_at_balance);
                          std::fputs(line.c_str(), stdout);
                        }
                      }
                      CopyOut(engine, weights);
                    }),
           0);
  return weights;
}

// All tokens have a direction in common, so every layer's router leans towards experts of its own.
Weights LeaningRouters() {
  Weights weights;
  const Config config = ConfigOf(1, 1, 1, /*micro_batch=*/4);
  const int64_t hidden = config.model().hidden();
  CHECK_EQ(RunWorld({},
                    [&](World& world) {
                      const TrainingEngine engine(config, world);
                      CopyOut(engine, weights);
                    }),
           0);
  std::vector<char>& embedding = weights.at("model.embed_tokens.weight");
  auto* values = reinterpret_cast<float*>(embedding.data());
  for (int token = 0; token < kVocab; ++token) values[token * hidden] = 0.45;
  return weights;
}

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
  double least = 0;  // slot imbalance that no placement of whole experts can be below, on them
  BenchResult result[kVariants];
};

struct Options {
  int train = 300, steps = 1, micro_batch = 4;
  int shadows = -1;  // room of a rank; -1: as many as it has experts
  int weight_grad_slots = 0;
};

Row Measure(const Weights& weights, int ranks, int stages, int microbatches, const Options& options) {
  Row row;
  const int shadows = options.shadows >= 0 ? options.shadows : kExperts / ranks;
  const int64_t micro_batch = options.micro_batch;
  Config config = ConfigOf(ranks, stages, microbatches, options.micro_batch, shadows);
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
    const ExpertPlacement contiguous = engine.parts().placement.WithRoom(0);
    const ExpertPlacement aware = PlaceBySlots(loads, contiguous);
    const ShadowCounts placing{
        .counts = counts,
        .schedule = schedule,
        .copy_share = CopyShare(static_cast<double>(micro_batch) * kSequence * ranks / stages, false)};
    const ExpertPlacement placements[] = {contiguous, aware, PlaceShadows(placing, aware, shadows)};
    std::vector<BenchResult> results[kVariants];
    // In turn, so that what else the machine does meets both alike.
    for (int repeat = 0; repeat < kVariants * kRepeats; ++repeat) {
      engine.parts().replacer.MoveTo(placements[repeat % kVariants]);
      results[repeat % kVariants].push_back(MeasureSteps(world, engine, samples, options.steps));
    }
    if (world.rank() != 0) return;
    row.skew = SkewOf(counts);
    const std::vector<double>& step_counts = engine.parts().use.statistics.step_counts();
    const ShadowCounts timed{.counts = step_counts, .schedule = schedule};
    row.least = LeastSlotImbalance(SlotLoadsOf(step_counts, kExperts, schedule, PoolSpan::kReplica), ranks);
    row.room = shadows;
    row.shadows = NumShadows(placements[2]);
    for (int variant = 0; variant < kVariants; ++variant) {
      std::vector<BenchResult>& of_variant = results[variant];
      row.predicted[variant] = SlotImbalance(placing, placements[variant]);
      row.measured[variant] = SlotImbalance(timed, placements[variant]);
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
                1e3 * ExpectedStep(r, 1, l.ranks), aware, before / aware, 1e3 * ExpectedStep(r, 2, l.ranks),
                shadow, before / shadow, 100 * r.result[2].dense / (r.result[2].dense + r.result[2].expert));
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--train=", 8) == 0) {
      options.train = std::max(1, std::atoi(argv[i] + 8));
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
          "error: what is \"%s\"? Options are --train=STEPS, --steps=N, --shadows=K, --micro_batch=N and "
          "--weight_grad_slots=N\n",
          argv[i]);
      return kUserErrorExitCode;
    }
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
