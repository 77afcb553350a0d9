// Step times that would be, from records: every rank does again what it did between its exchanges, and an
// exchange ends when its peers have started and its bytes have moved. Predictions, not measurements.
#pragma once

#include "launcher/traffic_report/exchange_waits.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

// Nanoseconds, means of the recorded steps, from the first rank's begin to the last one's end.
// NaN: not known.
struct WhatIf {
  double measured = kUnknown;
  double replayed = kUnknown;     // nothing changed: how good the replay is
  double free_wire = kUnknown;    // bytes move in no time; not known where there is no wire
  double level_ranks = kUnknown;  // in each slot ranks compute as long as the mean of those with like work
  double both = kUnknown;
  double inter_as_intra = kUnknown;  // wires between nodes as fast as those inside of them
};

// Unknown where times of ranks cannot be put on one clock.
WhatIf Replay(const JoinedTraffic& traffic, const RecordedManifest& manifest, const WaitEvidence& evidence);

}  // namespace unipool
