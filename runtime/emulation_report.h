// What a rank of the emulated world (emulated_communicator.h) did with its virtual time.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/communicator.h"

namespace unipool {

struct EmulatedCost {
  double idle_seconds = 0;     // waited for a peer that had not sent yet
  double exposed_seconds = 0;  // waited for the wire
  double hidden_seconds = 0;   // wire time that was covered
  double bytes_sent = 0;
  double num_exchanges = 0;
  void Add(const EmulatedCost& other);
  double HiddenShare() const;  // of the wire time; 1 when there was none
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

// Tables for people, all times divided by `num_steps`: one line a rank; one line an operation, mean of the
// ranks.
std::string RankTable(std::span<const EmulationReport> ranks, double num_steps);
std::string OperationTable(std::span<const EmulationReport> ranks, double num_steps);

}  // namespace unipool
