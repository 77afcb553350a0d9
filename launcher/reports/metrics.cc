#include "launcher/commands.h"
#include "launcher/reports/metric_list.h"
#include "launcher/standard_output.h"

namespace unipool {

int MetricsCommand(const CommandLine& command_line) {
  if (!IsPrintingProcess()) return 0;
  PrintResult(command_line.json ? MetricsJson() : MetricsTable());
  return 0;
}

}  // namespace unipool
