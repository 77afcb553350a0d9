// What a rank of the emulated world (emulated_communicator.h) did with its virtual time.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/communicator.h"

namespace unipool {

struct EmulatedCost {
  double idle_seconds = 0;     // the rank waited for a peer that had not sent yet
  double exposed_seconds = 0;  // the rank waited for the wire
  double hidden_seconds = 0;   // wire time for which the rank did not wait
  double bytes_sent = 0;
  double num_exchanges = 0;
  void Add(const EmulatedCost& other);
  // hidden / (hidden + exposed); 1 where there was no wire time.
  double HiddenShare() const;
};

// virtual_seconds = compute_seconds + total.idle_seconds + total.exposed_seconds.
struct EmulationReport {
  double virtual_seconds = 0, compute_seconds = 0;
  EmulatedCost total;
  std::vector<std::pair<std::string, EmulatedCost>> operations;  // by label, in order of first use
  void Add(const EmulationReport& other);
};

// The reports of all ranks, in rank order, on every rank. Collective.
std::vector<EmulationReport> GatherReports(Communicator& communicator, const EmulationReport& own);

// Tables for people. All times are divided by `num_steps`. RankTable has one line a rank. OperationTable has
// one line an operation, with the mean of the ranks.
std::string RankTable(std::span<const EmulationReport> ranks, double num_steps);
std::string OperationTable(std::span<const EmulationReport> ranks, double num_steps);

}  // namespace unipool
