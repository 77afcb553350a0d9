// What a training run does for moe.shrink_to between its steps (models/fading_experts.h).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/fading_experts.h"
#include "models/training_engine.h"

namespace unipool {

class PoolFading {
 public:
  // All references must outlive it. Its functions are collective, and the same on all ranks.
  PoolFading(const Config& config, TrainingEngine& engine, Communicator& world)
      : config_(config), engine_(engine), world_(world), fading_(config, engine.parts().use) {}

  // Before step `step`; returns a sentence for people when experts were chosen, or "". Throws UserError.
  std::string BeginStep(int64_t step);
  // The experts have faded, and a smaller pool has to go on (pool_of_run.h).
  bool IsOver(int64_t step) const { return fading_.IsOver(step); }
  std::string LastWords() const;

  // TrainingEngine::EvaluateLossSum after `step` updates. Where IsOver it also measures what taking the faded
  // experts out does to the norm of the logits, and AddTo tells checkpoints.
  double LossSum(int64_t step, const Tensor& samples, int64_t sequences);
  void AddTo(nlohmann::json& training_state) const;

 private:
  const Config& config_;
  TrainingEngine& engine_;
  Communicator& world_;
  FadingExperts fading_;
  std::vector<double> norm_ratios_;  // [L], or empty
};

}  // namespace unipool
