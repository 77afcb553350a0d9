// What placing experts by slots is worth (parallel/SCHEDULE.md, "Placement"), in the emulated world on an
// infinitely fast wire.
//
//   placement_bench [--train=STEPS] [--steps=N]
//
// Two models of 8 layers and 32 experts, top 1:
//   trained      with the pool loss, until its layers prefer different experts by themselves
//   not trained  with routers that lean towards experts of their own, by a standard deviation of about 1 in
//                the logarithm of an expert's share
//
// In each layout experts are placed by the counts of some steps and measured on the samples of another. A
// time is the time of forward and backward, without the update.
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
#include "parallel/slot_placement.h"
#include "runtime/random.h"
#include "tools/bench/pipeline_run.h"

namespace unipool {
namespace {

constexpr int kVocab = 256, kLayers = 8, kExperts = 32, kSequence = 128;
constexpr int kCountedSteps = 4;
constexpr int kRepeats = 5;

using Weights = std::map<std::string, std::vector<char>>;

Config ConfigOf(int ranks, int stages, int microbatches) {
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
  config.mutable_train()->set_micro_batch(4);
  config.mutable_train()->set_global_batch(4 * microbatches * ranks / stages);
  config.mutable_parallel()->set_ranks(ranks);
  config.mutable_parallel()->set_stages(stages);
  config.mutable_parallel()->set_placement(ParallelConfig::CONTIGUOUS);
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
  const Config config = ConfigOf(2, 1, 2);
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
  const Config config = ConfigOf(1, 1, 1);
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
  double predicted[2] = {};   // slot imbalance on the counts that placed the experts: contiguous, slot aware
  double measured[2] = {};    // on the samples that are timed
  double least = 0;           // slot imbalance that no placement can be below, on them
  double worst_slot[2] = {};  // largest imbalance of a single slot of them
  BenchResult result[2];
};

Row Measure(const Weights& weights, int ranks, int stages, int microbatches, int steps) {
  Row row;
  const Config config = ConfigOf(ranks, stages, microbatches);
  const auto body = [&](World& world) {
    TrainingEngine engine(config, world);
    CopyIn(weights, engine);
    std::vector<int32_t> tokens;
    std::vector<double> counts(kLayers * kExperts);
    for (int step = 0; step < kCountedSteps; ++step) {
      engine.TrainStep(step, 0, SamplesOf(engine, config, 1'000'000 + step, tokens));
      for (size_t i = 0; i < counts.size(); ++i) counts[i] += engine.parts().use.statistics.step_counts()[i];
    }
    const SlotSchedule schedule(LayersPerStage(config, engine.parts().mesh.shape()), microbatches);
    const SlotLoads loads = SlotLoadsOf(counts, kExperts, schedule, PoolSpan::kReplica);
    const Tensor samples = SamplesOf(engine, config, 2'000'000, tokens);
    const ExpertPlacement placements[] = {engine.parts().placement,
                                          PlaceBySlots(loads, engine.parts().placement)};
    std::vector<BenchResult> results[2];
    // In turn, so that what else the machine does meets both alike.
    for (int repeat = 0; repeat < 2 * kRepeats; ++repeat) {
      engine.parts().replacer.MoveTo(placements[repeat % 2]);
      results[repeat % 2].push_back(MeasureSteps(world, engine, samples, steps));
    }
    if (world.rank() != 0) return;
    row.skew = SkewOf(counts);
    const SlotLoads timed =
        SlotLoadsOf(engine.parts().use.statistics.step_counts(), kExperts, schedule, PoolSpan::kReplica);
    row.least = LeastSlotImbalance(timed, ranks);
    for (int aware = 0; aware < 2; ++aware) {
      const std::vector<double> slots = SlotImbalances(timed, placements[aware]);
      row.predicted[aware] = SlotImbalance(loads, placements[aware]);
      row.measured[aware] = SlotImbalance(timed, placements[aware]);
      row.worst_slot[aware] = *std::max_element(slots.begin(), slots.end());
      std::sort(results[aware].begin(), results[aware].end(),
                [](const BenchResult& a, const BenchResult& b) { return a.step < b.step; });
      row.result[aware] = results[aware][kRepeats / 2];
    }
  };
  CHECK_EQ(RunWorld({.num_threads = ranks, .emulate = ClusterDescription{}}, body), 0);
  return row;
}

// What the imbalance lets expect: expert time, level, is the mean of the ranks; the lockstep waits for the
// largest.
double ExpectedStep(const Row& row, int ranks) {
  const double level = row.result[0].expert / ranks;
  return row.result[0].step - level * (row.measured[0] - row.predicted[1]);
}

void PrintTable(const char* title, const Weights& weights, int steps) {
  std::printf("\n%s\n", title);
  std::printf("%8s | %-11s | %-29s | %-11s | %-36s | %5s\n", "", "log shares", "slot imbalance", "worst slot",
              "virtual ms of a step", "dense");
  std::printf("%2s %2s %2s | %5s %5s | %5s -> %5s %5s (%5s) | %5s %5s | %8s -> %8s (%8s) %5s | %5s\n", "W",
              "S", "B", "layer", "pool", "cont.", "pred.", "found", "least", "cont.", "aware", "cont.",
              "aware", "expected", "gain", "share");
  struct Layout {
    int ranks, stages, microbatches;
  };
  for (const Layout& l : {Layout{4, 1, 8}, {4, 2, 8}, {4, 4, 8}, {8, 4, 8}}) {
    const Row r = Measure(weights, l.ranks, l.stages, l.microbatches, steps);
    const BenchResult &before = r.result[0], &after = r.result[1];
    std::printf("%2d %2d %2d | %5.2f %5.2f | %5.3f -> %5.3f %5.3f (%5.3f) | %5.2f %5.2f ", l.ranks, l.stages,
                l.microbatches, r.skew.layers, r.skew.pool, r.measured[0], r.predicted[1], r.measured[1],
                r.least, r.worst_slot[0], r.worst_slot[1]);
    std::printf("| %8.1f -> %8.1f (%8.1f) %4.2fx | %4.1f%%\n", 1e3 * before.step, 1e3 * after.step,
                1e3 * ExpectedStep(r, l.ranks), before.step / after.step,
                100 * after.dense / (after.dense + after.expert));
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  int train = 300, steps = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--train=", 8) == 0) {
      train = std::max(1, std::atoi(argv[i] + 8));
    } else if (std::strncmp(argv[i], "--steps=", 8) == 0) {
      steps = std::max(1, std::atoi(argv[i] + 8));
    } else {
      std::fprintf(stderr, "error: what is \"%s\"? Options are --train=STEPS and --steps=N\n", argv[i]);
      return kUserErrorExitCode;
    }
  }
  std::printf("training %d steps\n", train);
  PrintTable("A trained model", Train(train), steps);
  PrintTable("Not trained: routers that lean towards experts of their own", LeaningRouters(), steps);
  std::printf(
      "\nlog shares: standard deviation of the logarithm of the experts' shares, in a layer and in all "
      "layers "
      "together\nslot imbalance: contiguous on the timed samples -> predicted by the counts that placed the "
      "experts, found on the timed samples, least of any placement (an expert is not split)\nexpected: "
      "contiguous step less the expert time that the "
      "prediction saves\n");
  return 0;
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  return unipool::Main(argc, argv);
}
