#include <cstdio>

#include "launcher/commands.h"
#include "launcher/metric_list.h"

namespace unipool {

int MetricsCommand(const CommandLine& command_line) {
  if (!IsPrintingProcess()) return 0;
  std::fputs((command_line.json ? MetricsJson() : MetricsTable()).c_str(), stdout);
  return 0;
}

}  // namespace unipool
