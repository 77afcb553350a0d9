// The records as lines of JSON, one for each exchange and rank, for programs.
#pragma once

#include <functional>
#include <string>

#include "launcher/traffic_report/traffic_report.h"

namespace unipool {

// Calls `write` with each line and its newline, by step, communicator, sequence, rank. Keys are the fields of
// ExchangeRecord (runtime/traffic_record.h); times are on the common clock, from the first recorded start on;
// null is "not known". to and from: lists of [world rank, bytes]. Behind them comes a line for each expert
// and layer, where neither a lane nor an operation is chosen: {first_step, last_step, expert, layer, ranks,
// rows, to_mean} as in ExpertRows (expert_rows.h).
void WriteExchangeLines(const TrafficReport& report, const std::function<void(const std::string&)>& write);

}  // namespace unipool
