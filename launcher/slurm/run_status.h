// How a run stands and what happened to its starts, for people and for programs. Pure functions of what was
// read.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launcher/reports/run_waits.h"
#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_holder.h"
#include "launcher/run_control/run_state.h"
#include "launcher/slurm/slurm_text.h"
#include "launcher/slurm/start_ledger.h"

namespace unipool {

struct StatusInput {
  std::string run_dir;
  double now = 0;  // seconds since 1970
  std::optional<RunState> state;
  std::optional<HeartbeatView> heartbeat;
  std::optional<RunHolder> holder;  // the run that lives
  std::optional<RunWaits> waits;    // of its last steps
  Ledger ledger;
  std::optional<std::vector<QueuedJob>> queue;    // the run's jobs; nothing: Slurm did not answer
  std::map<std::string, std::string> job_states;  // of jobs that are no longer queued, as far as Slurm knows
};

// One fact a line; the starts of the last submission as a table.
std::string StatusText(const StatusInput& input);
nlohmann::json StatusJson(const StatusInput& input);

// Why a start without an end came to it: what Slurm and the ledger know.
std::string WhyWithoutEnd(const LedgerStart& start, const std::string& job_state);

}  // namespace unipool
