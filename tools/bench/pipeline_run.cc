#include "tools/bench/pipeline_run.h"

#include <algorithm>

#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/random.h"

namespace unipool {
namespace {

Config ConfigOf(const BenchModel& model, const BenchLayout& layout) {
  Config config;
  config.mutable_model()->set_layers(model.layers);
  config.mutable_model()->set_hidden(model.hidden);
  config.mutable_model()->set_heads(model.hidden / 32);
  config.mutable_model()->set_kv_heads(model.hidden / 64);
  config.mutable_model()->set_seq_length(model.seq_length);
  config.mutable_model()->set_vocab(model.vocab);
  config.mutable_model()->set_init_std(0.05);
  config.mutable_moe()->set_experts(model.experts);
  config.mutable_moe()->set_top_k(model.top_k);
  config.mutable_moe()->set_width(model.width());
  config.mutable_moe()->set_router(RouterType::SOFTMAX);  // never gives a score of 0, so every choice is sent
  config.mutable_moe()->set_balance(Balance::NONE);
  config.mutable_train()->set_micro_batch(1);
  config.mutable_train()->set_global_batch(layout.microbatches * layout.ranks / layout.stages);
  config.mutable_parallel()->set_ranks(layout.ranks);
  config.mutable_parallel()->set_stages(layout.stages);
  config.mutable_parallel()->set_experts(layout.experts);
  config.mutable_parallel()->set_lanes(layout.lanes);
  config.mutable_parallel()->set_head(layout.head);
  config.mutable_parallel()->set_shadow_experts(std::max(0, layout.shadows));
  config.mutable_parallel()->set_replace_every(1);
  config.mutable_parallel()->mutable_layers_per_stage()->Assign(layout.layers_per_stage.begin(),
                                                                layout.layers_per_stage.end());
  return config;
}

double Summarize(std::vector<double> values, Summary summary) {
  if (summary == Summary::kSmallest) return *std::min_element(values.begin(), values.end());
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Measures on every rank alike.
class Measurement {
 public:
  Measurement(World& world, TrainingEngine& engine) : world_(world), engine_(engine) {
    engine.parts().place.stream().set_profile(&profile_);
  }
  void Step(int64_t step, const Tensor& samples) {
    profile_.Reset();
    if (world_.emulation) world_.emulation->ResetReport();
    const double begin = Max(Now()), wall_begin = WallSeconds(), cpu = ThreadCpuSeconds();
    engine_.ForwardBackward(step, samples);
    const double end = Now(), wall_end = WallSeconds();
    double compute = ThreadCpuSeconds() - cpu;
    EmulationReport report;
    if (world_.emulation) {
      report = world_.emulation->Report();
      compute = report.compute_seconds;
    }
    const EmulatedCost& cost = report.total;
    const double expert = profile_.cost(Op::kGroupedGemm).seconds + profile_.cost(Op::kSwiglu).seconds;
    const double ranks = world_.size();
    const double sum_compute = Sum(compute), sum_expert = Sum(expert);
    results_.push_back({.step = Max(end) - begin,
                        .wall = Max(wall_end - wall_begin),
                        .compute = sum_compute / ranks,
                        .max_compute = Max(compute),
                        .expert = sum_expert,
                        .dense = sum_compute - sum_expert,
                        .cost = {.idle_seconds = Sum(cost.idle_seconds) / ranks,
                                 .exposed_seconds = Sum(cost.exposed_seconds) / ranks,
                                 .hidden_seconds = Sum(cost.hidden_seconds) / ranks,
                                 .bytes_sent = Sum(cost.bytes_sent) / ranks}});
    for (int op = 0; op < kNumOps; ++op)
      results_.back().of_op[op] = Sum(profile_.cost(static_cast<Op>(op)).seconds);
    results_.back().ranks = GatherReports(*world_.communicator, report);
    engine_.Update(step, 0);
  }
  BenchResult Summarized(Summary summary) const {
    BenchResult result = results_.back();
    for (double BenchResult::*field :
         {&BenchResult::step, &BenchResult::wall, &BenchResult::compute, &BenchResult::max_compute,
          &BenchResult::dense, &BenchResult::expert}) {
      std::vector<double> values;
      for (const BenchResult& step : results_) values.push_back(step.*field);
      result.*field = Summarize(values, summary);
    }
    return result;
  }
  void Forget() { results_.clear(); }

 private:
  double Now() { return world_.emulation ? world_.emulation->Now() : ThreadCpuSeconds(); }
  double Max(double value) { return world_.communicator->AllReduceMax(value, {.operation = "benchmark"}); }
  double Sum(double value) {
    world_.communicator->AllReduceSum(Tensor(&value, DType::kF64, {1}), {.operation = "benchmark"});
    return value;
  }

  World& world_;
  TrainingEngine& engine_;
  Profile profile_{ProfileClock::kThreadCpu};
  std::vector<BenchResult> results_;
};

}  // namespace

std::vector<int> BenchLayersPerStage(const BenchModel& model, const BenchLayout& layout) {
  const Config config = ConfigOf(model, layout);
  return LayersPerStage(config, MeshShapeOf(config.parallel(), layout.ranks));
}

double PredictedShareOfIdeal(const BenchModel& model, const BenchLayout& layout) {
  const Config config = ConfigOf(model, layout);
  const MeshShape mesh = MeshShapeOf(config.parallel(), layout.ranks);
  const SlotSchedule schedule = TrainingSchedule(config, mesh);
  const StageWork work = EstimateWork(config);
  return IdealStepTime(schedule, work) / PredictStepTime(schedule, work, mesh.span);
}

BenchResult MeasureSteps(World& world, TrainingEngine& engine, const Tensor& samples, int steps,
                         Summary summary) {
  Measurement measurement(world, engine);
  measurement.Step(0, samples);
  measurement.Forget();
  for (int step = 1; step <= steps; ++step) measurement.Step(step, samples);
  engine.parts().place.stream().set_profile(nullptr);
  return measurement.Summarized(summary);
}

BenchResult RunBench(const BenchModel& model, const BenchLayout& layout, int steps, Summary summary) {
  const Config config = ConfigOf(model, layout);
  BenchResult result;
  const int exit_code = RunWorld({.num_threads = layout.ranks, .emulate = layout.emulate}, [&](World& world) {
    TrainingEngine engine(config, world);
    std::vector<int32_t> tokens(layout.microbatches * (model.seq_length + 1));
    const Tensor samples(tokens.data(), DType::kI32, {layout.microbatches, 1, model.seq_length + 1});
    const auto draw = [&](int seed) {
      for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = static_cast<int32_t>(RandomBits(seed + engine.parts().mesh.data_rank(), i) % model.vocab);
    };
    if (layout.shadows >= 0) {
      draw(1003);
      engine.TrainStep(0, 0, samples);
      engine.ReplaceExpertsIfDue(1);
    }
    draw(3);
    const BenchResult measured = MeasureSteps(world, engine, samples, steps, summary);
    if (world.rank() == 0) result = measured;
  });
  CHECK_EQ(exit_code, 0);
  return result;
}

}  // namespace unipool
