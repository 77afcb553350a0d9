// One look at a run, as `unipool watch` shows it again and again.
#pragma once

#include <optional>
#include <string>

#include "launcher/reports/run_record.h"
#include "launcher/reports/terminal_chart.h"
#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_state.h"

namespace unipool {

struct WatchedRun {
  const RunRecord& record;
  std::optional<RunState> state;
  std::optional<HeartbeatView> heartbeat;
  bool is_gone = false;  // the process that wrote the state ran on this machine and is no more
};
// Lines of less than `options.columns` characters: how it stands, a bar, its newest numbers, where it runs,
// and curves of loss and validation in the rows that are left. `now`: seconds since 1970.
std::string WatchFrame(const WatchedRun& run, double now, const TerminalChartOptions& options);

}  // namespace unipool
