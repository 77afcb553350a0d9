// A short training run of a small model, and what it reports.
#pragma once

#include <vector>

#include "tests/models/small_model.h"

namespace unipool {

struct RunTrace {
  std::vector<double> loss, pool_loss, grad_norm;  // per step
  bool operator==(const RunTrace&) const = default;
};

// Sane settings for a run that learns: a small learning rate for the moments to be well conditioned.
inline Config TrainingConfigOf(const SmallModel& small) {
  Config config = ConfigOf(small);
  config.mutable_model()->set_init_std(0.1);
  config.mutable_train()->set_lr(3e-3);
  return config;
}

// Steps [first, last) with the samples of `key`.
inline RunTrace RunSteps(TrainingEngine& engine, const Config& config, int64_t first, int64_t last) {
  RunTrace trace;
  std::vector<int32_t> tokens;
  for (int64_t step = first; step < last; ++step) {
    const StepReport report =
        engine.TrainStep(step, config.train().lr(), SamplesOf(engine, config, 2024, step, tokens));
    trace.loss.push_back(report.loss);
    trace.pool_loss.push_back(report.load.pool_loss);
    trace.grad_norm.push_back(report.grad_norm);
  }
  return trace;
}

inline RunTrace Train(const Config& config, World& world, DType dtype, int64_t steps) {
  TrainingEngine engine(config, world, {.dtype = dtype});
  return RunSteps(engine, config, 0, steps);
}

}  // namespace unipool
