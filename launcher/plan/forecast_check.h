// A forecast beside what a run measured, line by line: `plan --check RUN_DIR`, and the end of a run whose
// forecast was saved before it began.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/plan/forecast.h"
#include "launcher/reports/run_record.h"

namespace unipool {

struct CheckLine {
  std::string name;
  bool is_bytes = false;  // else seconds
  double planned = 0;
  std::optional<double> measured;  // absent: the run tells nothing of it
  // planned / measured - 1; absent where nothing was measured.
  std::optional<double> Error() const;
};

struct ForecastCheck {
  std::vector<CheckLine> lines;  // the first is the step
  int64_t num_steps = 0;         // that the medians are of
  // The step's error is at most `tolerance`.
  bool Holds(double tolerance) const;
};

// Times are medians of the run's steps but the first two. `step`: the recorded step that the forecast's
// rows are of, whose bytes are compared; -1: medians of bytes too. `config`, `ranks`: of the forecast.
// Throws UserError where the run has no such steps.
ForecastCheck CheckForecast(const Forecast& forecast, const Config& config, int ranks, const Cluster& cluster,
                            const RunRecord& run, int64_t step);

// RUN_DIR/plan.json, which `plan --save` wrote before the run: what it predicted beside what the run
// measured. "": there is none, or the run has too few steps. Throws nothing.
inline constexpr char kSavedForecast[] = "plan.json";
std::string SavedForecastText(const std::string& run_dir);

std::string CheckText(const ForecastCheck& check, double tolerance);
std::string CheckJson(const ForecastCheck& check, double tolerance);

}  // namespace unipool
