// The records of all ranks put together: one entry an exchange, with what each rank says of it, on one clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/traffic_report/clock_map.h"
#include "launcher/traffic_report/recorded_run.h"

namespace unipool {

// What one rank recorded of an exchange. Times are on the common clock, -1 where they are not known. Of
// device memory they are the device's: the exchange could begin, the compute queue came to its wait, and went
// on.
struct ExchangePart {
  const RecordedExchange* recorded = nullptr;  // null: not recorded (dropped, or the rank's file is missing)
  int64_t start = -1, start_done = -1, wait_enter = -1, wait_leave = -1;
  int64_t uncertainty = 0;  // of these, beside that of clocks between hosts
  // From SplitExchanges (exchange_waits.h); -1: not known. blocked = idle + idle_receiver + exposed, and
  // stalled is a part of exposed.
  int64_t idle = -1, idle_receiver = -1, exposed = -1, stalled = 0, hidden = -1;
  int64_t idle_uncertainty = 0;  // how far idle may be off because clocks are
  int cause = -1;                // world rank that most of idle and idle_receiver is owed to
  int64_t blocked() const { return wait_leave < 0 || wait_enter < 0 ? 0 : wait_leave - wait_enter; }
};

struct JoinedExchange {
  int64_t step = -1, sequence = -1;
  int communicator = -1, operation = -1;  // of the tables of JoinedTraffic
  int lane = -1, slot_time = -1, slot_index = -1;
  std::vector<ExchangePart> parts;  // by rank in the communicator
};

struct JoinedStep {
  int64_t step = -1;
  std::vector<int64_t> begin, end;  // by world rank, common clock; -1: not recorded
};

struct JoinedTraffic {
  std::vector<CommunicatorName> communicators;  // distinct by name and members
  std::vector<std::string> operations;
  std::vector<JoinedExchange> exchanges;  // by step, communicator and sequence
  std::vector<JoinedStep> steps;
  int64_t incomplete = 0;  // exchanges that a rank of the communicator did not record
  int WorldRank(const JoinedExchange& exchange, int part) const {
    return communicators[exchange.communicator].members[part];
  }
};

// Of the steps that all ranks recorded. `folder` must outlive the result, which points into it. Times of
// ranks whose clock was never compared with rank 0's are -1. Throws UserError where ranks disagree about
// what an exchange was, or about its bytes.
JoinedTraffic JoinTraffic(const RecordedRun& folder, const ClockMap& clocks);

// Ranks of which one stage each: by world rank, from the records' own work; -1: not known.
std::vector<int> StageOfRank(const JoinedTraffic& traffic, int world);

}  // namespace unipool
