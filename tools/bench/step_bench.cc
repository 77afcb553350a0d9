// One training step of a small UniPool model on one thread: how fast, where the time goes, and how far from
// what the machine could do. Prints one line per kind of kernel and a summary.
//   step_bench [STEPS]
// Floor: for each kernel call the longer of its arithmetic at peak and its least bytes at copy bandwidth,
// summed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "models/training_engine.h"
#include "runtime/random.h"
#include "tools/bench/machine_peaks.h"

namespace unipool {
namespace {

Config BenchConfig() {
  Config config;
  ModelConfig& model = *config.mutable_model();
  model.set_layers(8);
  model.set_hidden(256);
  model.set_heads(8);
  model.set_kv_heads(4);
  model.set_seq_length(256);
  model.set_vocab(256);
  model.set_init_std(0.05);
  config.mutable_moe()->set_experts(64);
  config.mutable_moe()->set_width(1024);
  config.mutable_moe()->set_balance_coeff(1e-3);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_micro_batch(8);
  return config;
}

// Multiply-adds of the model's own matrices and attention, forward and backward (three times the forward),
// without what an implementation computes again.
double ModelFlops(const Config& config) {
  const ModelConfig& m = config.model();
  const double d = m.hidden(), tokens = double(m.seq_length()) * config.train().global_batch();
  const double attention_matrices = 2 * d * d + 2 * d * d * m.kv_heads() / m.heads();
  const double experts = 3.0 * d * config.moe().width() * config.moe().top_k();
  const double per_layer =
      attention_matrices + d * config.moe().experts() + experts + d * (m.seq_length() + 1);
  return 6 * tokens * (m.layers() * per_layer + d * m.vocab());
}

// Tokens with some structure, so that routing is neither uniform nor degenerate.
void FillSamples(const Tensor& samples, int64_t step) {
  int32_t* tokens = samples.as<int32_t>();
  for (int64_t i = 0; i < samples.size(); ++i) {
    const double u = RandomUniform(7, step * samples.size() + i);
    tokens[i] =
        i % 4 ? (tokens[i - 1] * 5 + static_cast<int32_t>(u * 8)) % 256 : static_cast<int32_t>(256 * u * u);
  }
}

void PrintReport(const Config& config, const Profile& profile, const MachinePeaks& peaks, double seconds,
                 int steps) {
  const OpCost total = profile.Total();
  std::printf("\n%-14s %8s %9s %8s %9s %9s %9s\n", "kernel", "calls", "ms/step", "% step", "GFLOP/s", "GB/s",
              "% floor");
  double gemm_seconds = 0, gemm_flops = 0;
  for (int i = 0; i < kNumOps; ++i) {
    const Op op = static_cast<Op>(i);
    const OpCost& cost = profile.cost(op);
    if (cost.calls == 0) continue;
    if (op == Op::kGemm || op == Op::kGroupedGemm) gemm_seconds += cost.seconds, gemm_flops += cost.flops;
    const std::string row =
        Format("%-14s %8d %9.2f %8.1f %9.1f %9.1f %9.1f\n", NameOf(op), cost.calls / steps,
               1e3 * cost.seconds / steps, 100 * cost.seconds / seconds, cost.flops / cost.seconds / 1e9,
               cost.bytes / cost.seconds / 1e9, 100 * cost.floor_seconds / cost.seconds);
    std::fputs(row.c_str(), stdout);
  }
  const double tokens = double(config.model().seq_length()) * config.train().global_batch() * steps;
  const double model_flops = ModelFlops(config) * steps;
  std::printf("%-14s %8s %9.2f %8.1f\n", "outside", "", 1e3 * (seconds - total.seconds) / steps,
              100 * (1 - total.seconds / seconds));
  std::printf("\nmachine: sgemm peak %.1f GFLOP/s, copy %.1f GB/s (one thread)\n",
              peaks.flops_per_second / 1e9, peaks.bytes_per_second / 1e9);
  std::printf("step: %.1f ms, %.0f tokens/s, %.1f GFLOP/s of model arithmetic = %.1f %% of peak\n",
              1e3 * seconds / steps, tokens / seconds, model_flops / seconds / 1e9,
              100 * model_flops / seconds / peaks.flops_per_second);
  std::printf("gemm: %.1f %% of the step, at %.1f %% of peak\n", 100 * gemm_seconds / seconds,
              100 * gemm_flops / gemm_seconds / peaks.flops_per_second);
  std::printf("floor: %.1f ms a step; the step reaches %.1f %% of it\n", 1e3 * total.floor_seconds / steps,
              100 * total.floor_seconds / seconds);
}

void Run(World& world, int steps) {
  const Config config = BenchConfig();
  const MachinePeaks peaks = MeasureMachinePeaks();
  TrainingEngine engine(config, world);
  std::vector<int32_t> tokens(8 * 257);
  const Tensor samples(tokens.data(), DType::kI32, {1, 8, 257});
  int64_t step = 0;
  for (; step < 3; ++step) FillSamples(samples, step), engine.TrainStep(step, 1e-4, samples);

  Profile profile(peaks.flops_per_second, peaks.bytes_per_second);
  engine.parts().place.stream().set_profile(&profile);
  double seconds = 0, zero_share = 0;
  for (int i = 0; i < steps; ++i, ++step) {
    FillSamples(samples, step);
    const auto start = std::chrono::steady_clock::now();
    zero_share = engine.TrainStep(step, 1e-4, samples).load.zero_score_share;
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  PrintReport(config, profile, peaks, seconds, steps);
  std::printf("memory: peak %.1f MB; tokens without a positive score %.1f %%\n",
              world.memory->peak_bytes() / 1e6, 100 * zero_share);
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  const int steps = argc > 1 ? std::max(1, std::atoi(argv[1])) : 10;
  return unipool::RunWorld({}, [&](unipool::World& world) { unipool::Run(world, steps); });
}
