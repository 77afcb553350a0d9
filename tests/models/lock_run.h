// A short run of a small model with UniPool-lock, and what it reports.
#pragma once

#include <vector>

#include "tests/models/training_run.h"

namespace unipool {

inline constexpr int kFreeze = 4, kLock = 8, kSteps = 12;

// 4 layers and 8 experts: two for each layer.
inline Config LockConfigOf(LockConfig::Assignment assignment = LockConfig::COUNTS, int top_k = 1) {
  Config config = TrainingConfigOf({.experts = 8, .top_k = top_k, .layers = 4, .coeff = 0.01});
  config.mutable_train()->set_steps(kSteps);
  LockConfig& lock = *config.mutable_moe()->mutable_lock();
  lock.set_assignment(assignment);
  lock.set_entropy_end_fraction(double{kFreeze} / kSteps);
  lock.set_lock_fraction(double{kLock} / kSteps);
  lock.set_entropy_coeff(0.05);
  lock.set_entropy_target(2);
  lock.set_guard_consecutive(0);
  return config;
}

struct LockTrace {
  RunTrace run;
  std::vector<LockReport> reports;
  std::vector<double> valid_loss, coverage;
  std::vector<int32_t> owners;
};

// A validation of 9 sequences after `step` updates.
inline LockObservation Validate(TrainingEngine& engine, const Config& config, World& world, int64_t step,
                                LockTrace& trace) {
  std::vector<int32_t> tokens;
  constexpr int64_t kSequences = 9;
  const int64_t round = config.train().micro_batch() * engine.data_ranks();
  const int64_t rounds = (kSequences + round - 1) / round, columns = config.model().seq_length() + 1;
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < config.train().micro_batch(); ++i) {
      const int64_t sequence = engine.SequenceIndex(m, i);
      for (int64_t position = 0; position < columns; ++position)
        tokens.push_back(
            SampleToken(99, 0, sequence < kSequences ? sequence : 0, position, config.model().vocab()));
    }
  }
  PoolLock& lock = *engine.parts().use.lock;
  engine.parts().use.SetStep(step);
  lock.BeginValidation();
  const Tensor samples(tokens.data(), DType::kI32, {rounds, config.train().micro_batch(), columns});
  const double loss = engine.EvaluateLossSum(samples, kSequences) / (kSequences * (columns - 1));
  const LockObservation seen = lock.EndValidation(step, loss, *world.communicator);
  trace.valid_loss.push_back(loss);
  if (seen.coverage_min) trace.coverage.push_back(*seen.coverage_min);
  return seen;
}

// Updates [first, last), with a validation before every second one, as far as it was not done before.
inline void RunLock(TrainingEngine& engine, const Config& config, World& world, int64_t first, int64_t last,
                    LockTrace& trace) {
  std::vector<int32_t> tokens;
  for (int64_t step = first; step < last; ++step) {
    if (step > 0 && step % 2 == 0) Validate(engine, config, world, step, trace);
    const StepReport report = engine.TrainStep(step, 3e-3, SamplesOf(engine, config, 2024, step, tokens));
    trace.run.loss.push_back(report.loss);
    trace.run.pool_loss.push_back(report.load.pool_loss);
    trace.run.grad_norm.push_back(report.grad_norm);
    trace.reports.push_back(*report.load.lock);
    engine.ReplaceExpertsIfDue(step + 1);
  }
  trace.owners = engine.parts().use.lock->owners();
}

inline LockTrace WholeRun(const Config& config, World& world, DType dtype = DType::kF64) {
  TrainingEngine engine(config, world, {.dtype = dtype});
  LockTrace trace;
  RunLock(engine, config, world, 0, kSteps, trace);
  return trace;
}

inline std::vector<int> SizesOf(const std::vector<int32_t>& owners) {
  std::vector<int> sizes(4);
  for (const int32_t owner : owners) ++sizes[owner];
  return sizes;
}

}  // namespace unipool
