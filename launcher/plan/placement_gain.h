// What the places of experts give a plan: the step with consecutive blocks of experts, with experts placed by
// the counted rows, and with shadows of them besides (parallel/SHADOWS.md).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/plan/forecast.h"
#include "parallel/shadow_price.h"

namespace unipool {

// What a rank's work on experts takes in a step, and one expert's move to another rank and back. REQUIRES: as
// MakeForecast.
ShadowCosts ShadowCostsOf(const Config& config, int ranks, const Cluster& cluster);

struct PlacedStep {
  std::string name;
  double imbalance = 1;   // parallel/slot_loads.h
  double step = 0;        // seconds, with what shadows add
  int shadows = 0;        // of a rank
  int moves = 0;          // experts that the busiest rank sends, or receives, in a step
  int64_t bytes = 0;      // of a rank's memory, for them
  bool is_worth = false;  // of the numbers of shadows, the one that ChooseShadows takes
};

// `shares`: [L * M] of each layer, as RowsFound::shares. Empty where a rank has the whole pool.
std::vector<PlacedStep> PlacedSteps(const Config& config, int ranks, const Cluster& cluster,
                                    const std::vector<double>& shares);
std::string PlacedStepsText(const std::vector<PlacedStep>& steps);
nlohmann::json PlacedStepsJson(const std::vector<PlacedStep>& steps);

// For parallel.shadow_experts: -1, auto. Sets the number that pays by what the newest checkpoint of run_dir
// counted, on the cluster of parallel.emulate, and returns a sentence for people. 0 where nothing was counted
// or no wire is described. "": the settings give a number. Throws UserError where settings are not valid for
// so many ranks.
std::string TakeShadows(int ranks, Config& config);

}  // namespace unipool
