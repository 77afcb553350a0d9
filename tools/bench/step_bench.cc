// One training step of a small UniPool model on one thread, in FP32 and with BF16 products: how fast, where
// the time goes, and how far from what the machine could do. Prints a line per kind of kernel and a summary.
//   step_bench [STEPS]
//   step_bench --turns FP32|BF16 [WEIGHT_GRAD_SLOTS]
//     A step for each line of the standard input and a JSON line after it, so that torch_bench.py can let it
//     take turns with another program.
//   step_bench --write FOLDER STEPS
//     For other programs the configuration (step.txtpb) and the samples of so many steps (samples.i32,
//     int32 [STEPS, 8, 257]).
// Steps of both take turns. Times are processor times of the thread, so that other programs disturb them
// less; a step's is the median.
// Floor: for each kernel call the longer of its arithmetic at peak and its least bytes at copy bandwidth,
// summed. It needs no clock, and is taken from the steps of the warm-up.
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/bf16_products.h"
#include "models/training_engine.h"
#include "runtime/random.h"
#include "tools/bench/machine_peaks.h"
#include "tools/bench/thread_time.h"

namespace unipool {
namespace {

constexpr double kLearningRate = 1e-4;

Config BenchConfig(TrainConfig::Precision precision, int weight_grad_slots = 0) {
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
  config.mutable_train()->set_precision(precision);
  config.mutable_train()->set_weight_grad_slots(weight_grad_slots);
  config.mutable_train()->set_lr(kLearningRate);
  config.mutable_train()->set_lr_schedule(TrainConfig::CONSTANT);
  config.mutable_train()->set_warmup_fraction(0);
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

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One precision: its engine, and what its steps took.
struct Variant {
  Variant(const char* name, const Config& config, double peak_flops, double peak_bytes, World& world)
      : name(name),
        config(config),
        peak_flops(peak_flops),
        floors(peak_flops, peak_bytes),
        engine(config, world) {}
  void Step(int64_t step, bool counts) {
    std::vector<int32_t> tokens(8 * 257);
    const Tensor samples(tokens.data(), DType::kI32, {1, 8, 257});
    FillSamples(samples, step);
    engine.parts().place.stream().set_profile(counts ? &profile : &floors);
    const double start = ThreadSeconds();
    const StepReport report = engine.TrainStep(step, kLearningRate, samples);
    loss = report.loss;
    zero_share = report.load.zero_score_share;
    if (counts) seconds.push_back(ThreadSeconds() - start);
    if (!counts) ++warm_up_steps;
  }
  double tokens_per_second() const {
    return double(config.model().seq_length()) * config.train().global_batch() / Median(seconds);
  }
  const char* name;
  const Config config;
  const double peak_flops;
  Profile floors;  // of the warm-up
  Profile profile{ProfileClock::kThreadCpu};
  TrainingEngine engine;
  std::vector<double> seconds;
  int warm_up_steps = 0;
  double zero_share = 0, loss = 0;
};

void PrintReport(const Variant& variant, const MachinePeaks& peaks) {
  const Config& config = variant.config;
  const Profile& profile = variant.profile;
  const int steps = static_cast<int>(variant.seconds.size());
  const double seconds = std::accumulate(variant.seconds.begin(), variant.seconds.end(), 0.0);
  const OpCost total = profile.Total();
  const auto floor_share = [&](const OpCost& cost, const OpCost& floor) {
    return 100 * floor.floor_seconds / variant.warm_up_steps / (cost.seconds / steps);
  };
  std::printf("\n%s\n", variant.name);
  std::printf("%-14s %8s %9s %8s %9s %9s %9s\n", "kernel", "calls", "ms/step", "% step", "GFLOP/s", "GB/s",
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
               cost.bytes / cost.seconds / 1e9, floor_share(cost, variant.floors.cost(op)));
    std::fputs(row.c_str(), stdout);
  }
  const double model_flops = ModelFlops(config) * steps;
  std::printf("%-14s %8s %9.2f %8.1f\n", "outside", "", 1e3 * (seconds - total.seconds) / steps,
              100 * (1 - total.seconds / seconds));
  std::printf("\nmachine: product peak %.1f GFLOP/s, copy %.1f GB/s (one thread)\n", variant.peak_flops / 1e9,
              peaks.bytes_per_second / 1e9);
  std::printf("step: %.1f ms, %.0f tokens/s, %.1f GFLOP/s of model arithmetic = %.1f %% of peak\n",
              1e3 * Median(variant.seconds), variant.tokens_per_second(), model_flops / seconds / 1e9,
              100 * model_flops / seconds / variant.peak_flops);
  std::printf("gemm: %.1f %% of the step, at %.1f %% of peak\n", 100 * gemm_seconds / seconds,
              100 * gemm_flops / gemm_seconds / variant.peak_flops);
  const double floor = variant.floors.Total().floor_seconds / variant.warm_up_steps;
  std::printf("floor: %.1f ms a step; the step reaches %.1f %% of it\n", 1e3 * floor,
              100 * floor * steps / seconds);
}

void Run(World& world, int steps) {
  const MachinePeaks peaks = MeasureMachinePeaks();
  Variant fp32("FP32", BenchConfig(TrainConfig::FP32), peaks.flops_per_second, peaks.bytes_per_second, world);
  const double fp32_bytes = static_cast<double>(world.memory->peak_bytes());
  Variant bf16("BF16 products", BenchConfig(TrainConfig::BF16), peaks.bf16_flops_per_second,
               peaks.bytes_per_second, world);
  constexpr int kWarmUp = 3;
  for (int64_t step = 0; step < kWarmUp + steps; ++step) {
    for (Variant* variant : {&fp32, &bf16}) variant->Step(step, step >= kWarmUp);
  }
  for (const Variant* variant : {&fp32, &bf16}) {
    PrintReport(*variant, peaks);
    std::printf("loss %.4f; tokens without a positive score %.1f %%\n", variant->loss,
                100 * variant->zero_share);
  }
  std::printf("\nBF16 products (%s): %.2f times the tokens/s of FP32\n", Bf16ProductsText().c_str(),
              bf16.tokens_per_second() / fp32.tokens_per_second());
  std::printf("memory: FP32 %.1f MB at its start; both at their peaks %.1f MB\n", fp32_bytes / 1e6,
              world.memory->peak_bytes() / 1e6);
}

void TakeTurns(World& world, const Config& config) {
  Variant variant("", config, 0, 0, world);
  std::string line;
  for (int64_t step = 0; std::getline(std::cin, line); ++step) {
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto start = now();
    const std::clock_t processor_start = std::clock();  // of the whole process
    variant.Step(step, false);
    const double processor_seconds = static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC;
    const double seconds = std::chrono::duration<double>(now() - start).count();
    std::printf("{\"seconds\": %.6f, \"processor_seconds\": %.6f, \"loss\": %.6f}\n", seconds,
                processor_seconds, variant.loss);
    std::fflush(stdout);
  }
}

void WriteInputs(const std::string& folder, int steps) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(BenchConfig(TrainConfig::FP32), &text);
  std::ofstream(folder + "/step.txtpb") << text;
  std::ofstream file(folder + "/samples.i32", std::ios::binary);
  std::vector<int32_t> tokens(8 * 257);
  for (int64_t step = 0; step < steps; ++step) {
    FillSamples(Tensor(tokens.data(), DType::kI32, {1, 8, 257}), step);
    file.write(reinterpret_cast<const char*>(tokens.data()),
               static_cast<std::streamsize>(tokens.size() * sizeof(int32_t)));
  }
  CHECK(file.good()) << folder;
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "--write" && argc == 4) {
    unipool::WriteInputs(argv[2], std::atoi(argv[3]));
    return 0;
  }
  if (mode == "--turns" && (argc == 3 || argc == 4)) {
    const auto precision =
        argv[2] == std::string("BF16") ? unipool::TrainConfig::BF16 : unipool::TrainConfig::FP32;
    const unipool::Config config = unipool::BenchConfig(precision, argc == 4 ? std::atoi(argv[3]) : 0);
    return unipool::RunWorld({}, [&](unipool::World& world) { unipool::TakeTurns(world, config); });
  }
  const int steps = argc > 1 ? std::max(1, std::atoi(argv[1])) : 10;
  return unipool::RunWorld({}, [&](unipool::World& world) { unipool::Run(world, steps); });
}
