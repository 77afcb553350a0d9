// A forecast beside what a run measured, line by line: `plan --check RUN_DIR`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/plan/forecast.h"
#include "launcher/reports/run_record.h"
#include "launcher/traffic_report/recorded_run.h"

namespace unipool {

// How far planned and measured may lie apart, as shares of what was measured. PLAN.md says why.
struct Tolerances {
  double step = 0.1;  // either way
  // Either way, beyond what the run's own steps sent. Of a recorded step none, unless it sent what no plan
  // has.
  double bytes = 0.1;
  double memory = 0.05;  // above, and none below
};

struct CheckLine {
  // Of Error(), both at least 0.
  struct Allowed {
    double below = 0, above = 0;
  };
  std::string name;
  bool is_bytes = false;  // else seconds
  double planned = 0;
  std::optional<double> measured;  // absent: the run tells nothing of it
  std::optional<Allowed> allowed;  // absent: the line tells, and is not judged
  // planned / measured - 1; absent where nothing was measured.
  std::optional<double> Error() const;
  // Bytes are allowed half of one more, since planned ones are sums of shares. A line that is not judged
  // holds, and so does one that nothing was measured of.
  bool Holds() const;
};

struct ForecastCheck {
  std::vector<CheckLine> lines;  // the first is the step
  std::string step_source;       // whose step was measured (slowest_rank.h)
  std::string more_bytes;        // what the recorded step sent beside what is planned; "": nothing
  int64_t num_steps = 0;         // that the medians are of
  std::string not_planned;       // Forecast::not_planned: then the step is not judged
  bool Holds() const;            // all lines
};

struct MeasuredRun {
  const RunRecord& run;
  const RecordedRun* traffic = nullptr;  // null: it recorded nothing
  // That was recorded and the forecast's rows are of, whose bytes are compared; -1: medians of bytes too.
  int64_t step = -1;
};

// Times are medians of the run's steps but the first two; the step is the slowest rank's, where the run tells
// (slowest_rank.h). `config`, `ranks`: of the forecast. Throws UserError where the run has no such steps.
ForecastCheck CheckForecast(const Forecast& forecast, const Config& config, int ranks,
                            const MeasuredRun& measured, const Tolerances& tolerances);

// Rank 0's seconds of a step, on the emulated cluster where there is one: the median of the run's steps but
// the first two.
std::optional<double> MedianStepOf(const RunRecord& run);

// Share of the choices with a score of 0 in the run's steps but the first two: no row is sent for them. 0
// where the run does not tell.
double UnsentShare(const RunRecord& run);

// Share of a rank's experts that had rows, in the recorded `step`; of -1, and where the run does not tell of
// that step, the median of its steps but the first two. 0: it does not tell.
double UsedExpertsOf(const RunRecord& run, int64_t step = -1);

std::string CheckText(const ForecastCheck& check);
std::string CheckJson(const ForecastCheck& check);

}  // namespace unipool
