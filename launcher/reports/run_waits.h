// What ranks of a run waited for lately, by the end of its metrics.jsonl.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace unipool {

// Means over ranks; metric_list.h has the names. Of the newest step that tells what waits were for, otherwise
// of the newest step.
struct RunWaits {
  int64_t step = 0;
  double step_ms = 0, blocked_ms = 0;
  std::optional<double> idle_ms, exposed_ms;
  std::optional<int> waited_for_rank;
  std::optional<double> waited_for_share;
};

// Nothing where the run records no traffic, or has one rank. Of the file only the end is read.
std::optional<RunWaits> ReadRunWaits(const std::string& run_dir);

// "12 % of step 40: 300 ms for late ranks (63 % for rank 1, whatever made it late), 178 ms for the wire"
std::string RunWaitsText(const RunWaits& waits);
nlohmann::json RunWaitsJson(const RunWaits& waits);

}  // namespace unipool
