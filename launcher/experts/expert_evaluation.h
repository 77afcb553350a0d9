// Evaluations that look at a model's experts. All functions are collective, and the same on all ranks.
#pragma once

#include <optional>
#include <vector>

#include "launcher/data/batch_reader.h"
#include "launcher/experts/expert_figures.h"
#include "runtime/world.h"

namespace unipool {

class ExpertEvaluation {
 public:
  // Over so many sequences of the reader's dataset, always the same ones. All references must outlive it.
  ExpertEvaluation(TrainingEngine& engine, BatchReader& reader, World& world, int64_t sequences);

  // The mean loss. Fills the tables, the importance from the engine's history; margins only if asked.
  double Count(bool with_margin, ExpertTables& tables);
  // The mean loss. `ratios` [L]: RoutingProbe::norm_ratio of the kept experts.
  double NormRatios(const std::vector<int64_t>& kept, std::vector<double>& ratios);
  // The mean loss when no layer may choose the expert. Its logits stay in the norm of NORM, so the scores of
  // the others are what they were. Nothing where a layer would be left with less than top_k experts.
  std::optional<double> LossWithout(int64_t expert);

 private:
  double Loss(ForwardProbe* probe);
  TrainingEngine& engine_;
  BatchReader& reader_;
  World& world_;
  int64_t sequences_;
};

}  // namespace unipool
