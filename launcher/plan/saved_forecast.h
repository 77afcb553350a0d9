// RUN_DIR/plan.json: what `plan --save RUN_DIR` predicted before a run, told at the run's end.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "configs/config.pb.h"

namespace unipool {

inline constexpr char kSavedForecast[] = "plan.json";

// Settings that decide what a step costs, by name ("parallel.stages"), with what is chosen for those that are
// left open. REQUIRES: config is valid for `ranks`.
nlohmann::json LayoutSettings(const Config& config, int ranks);

// The saved plan beside what the run of `config` on `ranks` ranks measured. Where LayoutSettings differ,
// the sentence names these and compares nothing; so does one of a file that cannot be read. "": there is no
// such file, or the run has too few steps. Throws nothing.
std::string SavedForecastText(const Config& config, int ranks);

}  // namespace unipool
