// Whether a submitted run starts (again). Pure functions of what is known: launchers lose exit codes, so
// state.json counts, and the launcher's code only where the program wrote no end.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/run_control/run_state.h"
#include "launcher/slurm/start_ledger.h"

namespace unipool {

struct RestartLimits {
  int max_restarts = 50;            // starts of a submission after its first
  int max_failures = 3;             // failed starts in a row
  int max_nodes_excluded = 4;       // over a submission
  int max_starts_without_step = 3;  // in a row, failed or not; those that Slurm ended do not count
};

// What the script saw of a start that has just ended.
struct StartOutcome {
  int launcher_code = 0;
  std::string heard;              // the last signal to the script: "", "USR2" or "TERM"
  int64_t seconds_left = 0;       // of the job's time
  std::optional<RunState> state;  // of RUN_DIR/state.json
  int64_t heartbeat_step = 0;     // 0: of another start
};

// Whether state.json is of this start.
bool IsOf(const RunState& state, const LedgerStart& start);

// Before a start. Nothing: it is due. Else why not: kDone or kGiveUp, and the reason.
std::optional<StartEnd> WhyNotStart(const Ledger& ledger, const std::string& job,
                                    const std::optional<RunState>& state, int64_t target_steps,
                                    const RestartLimits& limits);

// After it. REQUIRES: `start` is the last of `ledger`, without an end.
StartEnd JudgeEnd(const Ledger& ledger, const LedgerStart& start, const StartOutcome& outcome,
                  const RestartLimits& limits);

// Nodes that a submission leaves out, in the order in which they were named.
std::vector<std::string> ExcludedNodes(const Submission& submission);

}  // namespace unipool
