// The time line of recorded steps as JSON of Chrome's trace format, which Perfetto (ui.perfetto.dev) opens.
#pragma once

#include <string>
#include <vector>

#include "launcher/traffic_report/traffic_report.h"

namespace unipool {

inline constexpr int64_t kMostTraceEvents = 200'000, kMostTraceBytes = 60'000'000;

// A process for each rank. Its threads: compute of either lane and of neither, Start, waits (idle, idle
// (receiver), exposed); exchanges are asynchronous events, since they overlap; arrows go from the Start of a
// late sender to the wait that it kept. `steps`: of the recorded ones. Throws UserError with the numbers
// where the trace would be larger than the limits, and where times of ranks are not known.
std::string TraceText(const TrafficReport& report, const std::vector<int64_t>& steps);

// The step whose time is the median; -1 where none is recorded.
int64_t MedianStep(const TrafficReport& report);

// Where a rank neither started nor waited, in one step: from the end of an exchange's call to the
// begin of the next.
struct ComputeRange {
  int64_t begin = 0, end = 0;                  // common clock
  int lane = -1, layer = -1, microbatch = -1;  // of the call that ends it; -1: not known
};
std::vector<ComputeRange> ComputeRanges(const JoinedTraffic& traffic, const JoinedStep& step, int rank);

}  // namespace unipool
